// `retain data show`: training sequences token by token, with the loss visible.
import ArgumentParser
import Corpus
import Runs
import StrictJSON

struct DataShowCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show exactly which tokens carry loss.",
    discussion: """
      FILE is a data file, or an experiment file whose stages are shown with their own settings. Without a
      model the loss is shown on the text itself.
      """)

  @Argument(help: ArgumentHelp("Data files or an experiment file.", valueName: "file"))
  var files: [String]
  @Option(help: "Model or tokenizer whose tokens are shown; default: the experiment's base model.")
  var model: String?
  @Option(help: ArgumentHelp("Rows of each part.", valueName: "n"))
  var rows = 3
  @Option(
    help: ArgumentHelp(
      "Most inputs of a sequence; default: the experiment's, else the model's context.", valueName: "n"))
  var sequenceLen: Int?
  @Flag(help: "Take loss on prompts, too.")
  var trainOnInputs = false
  @Flag(help: "Print JSON.")
  var json = false

  /// One sequence, cut into pieces that are tokens, or stretches of text without a tokenizer.
  private struct Shown {
    struct Piece {
      let id: Int32?
      let text: String
      let hasLoss: Bool
    }
    let place: String
    let row: SourceRow
    let pieces: [Piece]
  }

  func run() throws {
    guard rows >= 0 else { throw usage("--rows \(rows) is negative") }
    if let sequenceLen, sequenceLen < 1 { throw usage("--sequence-len \(sequenceLen) is below 1") }
    let data = try DataParts(files)
    try data.requireReadable()
    let coder = try TextCoder.chosen(model: model, plan: data.plan)
    var shown: [Shown] = []
    for part in data.parts where [.data, .training].contains(part.role) {
      let chosen = Array(part.rows.prefix(rows))
      let builder =
        coder?.builder(part.training, sequenceLength: sequenceLen, trainOnInputs: trainOnInputs)
        ?? Self.bytes(trainOnInputs: trainOnInputs || part.training?.trainOnInputs == true)
      for example in try builder.examples(from: chosen).examples {
        let pieces = coder.map { Self.tokens(example, $0.tokenizer) } ?? Self.stretches(example)
        shown.append(Shown(place: part.place, row: chosen[example.source], pieces: pieces))
      }
    }
    if json { Say.json(Self.json(shown)) } else { Self.write(shown, hasTokens: coder != nil) }
  }

  /// Ids beyond the bytes: the beginning and the end of a text.
  private static let (begin, end): (Int32, Int32) = (256, 257)

  /// Sequences of bytes, so that the rule about loss is the one of training.
  private static func bytes(trainOnInputs: Bool) -> ExampleBuilder {
    ExampleBuilder(
      encode: { $0.utf8.map(Int32.init) }, prefixToken: begin, eosToken: end, sequenceLength: .max,
      trainOnInputs: trainOnInputs)
  }
  /// Text without loss, then text with loss.
  private static func stretches(_ example: Example) -> [Shown.Piece] {
    func text(_ ids: ArraySlice<Int32>) -> String {
      String(decoding: ids.compactMap { UInt8(exactly: $0) }, as: UTF8.self)
    }
    let pieces = [
      Shown.Piece(id: nil, text: text(example.tokens[..<example.lossStart]), hasLoss: false),
      Shown.Piece(id: nil, text: text(example.tokens[example.lossStart...]), hasLoss: true),
    ]
    return pieces.filter { !$0.text.isEmpty }
  }
  private static func tokens(_ example: Example, _ tokenizer: Tokenizer) -> [Shown.Piece] {
    example.tokens.enumerated().map { index, id in
      // What a token adds to the text depends on those before it; a few of them are enough.
      let before = Array(example.tokens[max(0, index - 8)..<index])
      let (known, grown) = (Array(tokenizer.decode(before).utf8), Array(tokenizer.decode(before + [id]).utf8))
      var text = tokenizer.token(id) ?? "?"
      if grown.count > known.count, grown.starts(with: known),
        let added = String(validating: grown[known.count...], as: UTF8.self), !added.contains("\u{FFFD}")
      {
        text = added
      }
      return Shown.Piece(id: id, text: text, hasLoss: index >= example.lossStart)
    }
  }

  private static func write(_ shown: [Shown], hasTokens: Bool) {
    let hasColour = Say.hasColour
    let (with, without) = hasColour ? ("\u{1B}[32mgreen\u{1B}[0m", "\u{1B}[2mgrey\u{1B}[0m") : ("[…]", "(…)")
    Terminal.out("\(with) carries loss, \(without) does not\(hasTokens ? "; one mark a token" : "")")
    for one in shown {
      let loss = one.pieces.filter(\.hasLoss).count
      let counts = hasTokens ? ", \(one.pieces.count) tokens, loss on \(loss)" : ""
      Terminal.out("\n\(one.row.file):\(one.row.line) (\(one.place)\(counts))")
      let text = one.pieces.map { piece in
        let visible = visible(piece.text)
        guard hasColour else { return piece.hasLoss ? "[\(visible)]" : "(\(visible))" }
        return "\u{1B}[\(piece.hasLoss ? 32 : 2)m\(visible)\u{1B}[0m"
      }
      Terminal.out(text.joined(separator: hasColour && hasTokens ? "\u{1B}[2m|\u{1B}[0m" : ""))
    }
  }
  /// Control characters by name: data must not steer a terminal.
  private static func visible(_ text: String) -> String {
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": shown.append(contentsOf: "⏎".unicodeScalars)
      case "\t": shown.append(contentsOf: "⇥".unicodeScalars)
      case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value): shown.append("\u{FFFD}")
      default: shown.append(scalar)
      }
    }
    return String(shown)
  }

  private static func json(_ shown: [Shown]) -> JSON {
    [
      "schema": 1,
      "rows": .array(
        shown.map { one in
          [
            "place": .string(one.place), "file": .string(one.row.file), "line": .integer(one.row.line),
            "loss_tokens": .integer(one.pieces.filter { $0.hasLoss && $0.id != nil }.count),
            "pieces": .array(
              one.pieces.map {
                ["id": JSON($0.id.map(Int.init)), "text": .string($0.text), "loss": .bool($0.hasLoss)]
              }),
          ]
        }),
    ]
  }
}
