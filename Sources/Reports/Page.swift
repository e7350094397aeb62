// The shell of every page: one file, no script, nothing fetched, light and dark, fit for print.
// The policy in the head forbids what we promise not to do.

enum Page {
  /// A whole HTML document.
  static func document(title: String, _ body: (inout Markup) -> Void) -> String {
    var page = Markup()
    page.doctype()
    page.element("html", ["lang": "en"]) { page in
      page.element("head") { page in
        page.void("meta", ["charset": "utf-8"])
        page.void(
          "meta",
          [
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
          ])
        page.void("meta", ["name": "viewport", "content": "width=device-width, initial-scale=1"])
        page.void("meta", ["name": "color-scheme", "content": "light dark"])
        page.void("meta", ["name": "referrer", "content": "no-referrer"])
        page.element("title", title)
        page.element("style", style)
      }
      page.element("body", [:], body)
    }
    return page.text + "\n"
  }

  static func section(_ page: inout Markup, _ title: String, _ body: (inout Markup) -> Void) {
    page.element("section") { page in
      page.element("h2", title)
      body(&page)
    }
  }

  static func list(_ page: inout Markup, _ lines: [String]) {
    page.element("ul") { page in
      for line in lines { page.element("li", line) }
    }
  }

  static func folded(_ page: inout Markup, _ title: String, _ content: String) {
    page.element("details") { page in
      page.element("summary", title)
      page.element("pre", content)
    }
  }

  // No quotes, ampersands or angle brackets here: the writer would escape them and CSS would not unescape.
  private static let style = """
    :root { --ground: #ffffff; --ink: #1b1f24; --soft: #5b6570; --rule: #d5dae0; --band: #f1f4f7;
      --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b5568a; --c4: #b87900; --c5: #3a93c9; --c6: #555555; }
    @media (prefers-color-scheme: dark) { :root { --ground: #14171b; --ink: #e6e9ec; --soft: #9aa5b1;
      --rule: #343b43; --band: #1d2228; --c0: #56b4e9; --c1: #f0803c; --c2: #2cc295; --c3: #e08fbe;
      --c4: #e69f00; --c5: #8fd0f5; --c6: #bbbbbb; } }
    * { box-sizing: border-box; }
    body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; background: var(--ground);
      color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
    h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
    h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; font-weight: 600; }
    header { border-bottom: 1px solid var(--rule); padding-bottom: 1rem; }
    .headline { font-size: 1.2rem; margin: .6rem 0; } .soft, caption { color: var(--soft); font-size: .9rem; }
    caption { text-align: left; padding-bottom: .3rem; }
    .scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
    th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
    th:first-child { text-align: left; } th { font-weight: 600; } thead th { white-space: normal; vertical-align: bottom; }
    td, tbody th { font-size: .93rem; } .home { outline: 2px solid var(--ink);
      outline-offset: -2px; }
    svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font-size: 11px; }
    .small { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: .5rem 1rem; }
    .grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
    .series { fill: none; stroke-width: 1.7; } .main { stroke-width: 3; } .faint { stroke-width: 1; opacity: .35; }
    .error { stroke-width: 1.2; opacity: .8; } .band { fill: var(--band); } .odd { opacity: .4; }
    .resume { stroke: var(--soft); stroke-dasharray: 2 3; } .front { fill: none; stroke: var(--soft);
      stroke-dasharray: 3 3; } .chosen { fill: none; stroke: var(--ink); stroke-width: 2; }
    .legend span { display: inline-block; margin-right: 1rem; white-space: nowrap; }
    .key { width: 30px; height: 12px; display: inline-block; vertical-align: middle; }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; } dt { font-weight: 600; }
    dd { margin: 0; } pre { overflow-x: auto; background: var(--band); padding: .8rem; font-size: .85rem;
      white-space: pre-wrap; overflow-wrap: anywhere; }
    @media print { body { max-width: none; } section, figure, svg { break-inside: avoid; } }
    """
}
