// A run as people watch it: one status line on a terminal, plain lines elsewhere, nothing with --quiet.
import Experiment
import Foundation
import Glibc
import Ledger
import Models
import Runs

/// Shows what a run does.
final class Progress: RunObserver {
  enum Form { case bar, lines, quiet }
  private let form: Form
  /// Of the last redrawing of the status line.
  private var drawn = -Double.infinity
  private var hasStatus = false
  private var stageStart: (key: String, seconds: Double, tokens: Int) = ("", 0, 0)

  init(quiet: Bool) { form = quiet ? .quiet : Terminal.isInteractive ? .bar : .lines }

  // MARK: RunObserver

  func assembled(_ assembly: Assembly) {
    let model = assembly.subject.facts
    line(
      "model   \(model.architecture), \(Figures.count(assembly.subject.network.parameters.count)) parameters, "
        + "\(model.layers) layers, context \(model.context)")
    func set(_ name: String, _ text: TextSet) -> String {
      "\(name) \(Figures.count(text.report.rows)) rows, \(Figures.count(text.inputTokens)) tokens"
    }
    var sets = zip(assembly.plan.stages, assembly.data.stages).map { set($0.name, $1) }
    if !assembly.data.base.examples.isEmpty { sets.insert(set("base", assembly.data.base), at: 0) }
    line("data    " + sets.joined(separator: " · "))
  }

  func message(_ text: String) { line(text) }

  func warning(_ text: String) {
    clear()
    Terminal.warning(text)
  }

  func activity(_ text: String) {
    switch form {
    case .bar: status(Style.dim.paint(fitted(text)))
    case .lines: line(text)
    case .quiet: break
    }
  }

  func progress(_ step: StepProgress) {
    let key = step.variant + "/" + step.stage
    if stageStart.key != key { stageStart = (key, Machine.seconds, 0) }
    stageStart.tokens += step.tokens
    switch form {
    case .quiet: break
    case .lines: if step.isLogged { line(Self.row(step)) }
    case .bar:
      if step.step == step.steps {
        let speed = Double(stageStart.tokens) / max(1e-9, Machine.seconds - stageStart.seconds)
        clear()
        Terminal.out(
          "\(step.variant)  \(step.stage)  \(step.steps) steps  loss \(Figures.fixed(step.loss, 3))"
            + (step.penalty > 0 ? "  penalty \(Figures.short(step.penalty))" : "")
            + "  \(Figures.count(Int(speed))) tokens/s")
      } else if step.step == 1 || Machine.seconds - drawn > 0.2 {
        status(bar(step))
      }
    }
  }

  // MARK: Drawing

  /// Everything of a step on one line, for logs.
  private static func row(_ step: StepProgress) -> String {
    var text =
      "\(step.variant) \(step.stage) step \(step.step)/\(step.steps) loss \(Figures.fixed(step.loss, 4))"
    if step.penalty > 0 { text += " penalty \(Figures.short(step.penalty))" }
    text += " lr \(Figures.short(step.learningRate)) grad \(Figures.short(step.gradientNorm))"
    return text + " tokens/s \(Int(step.tokensPerSecond)) left \(Figures.duration(step.secondsLeft))"
  }

  private func bar(_ step: StepProgress) -> String {
    let share = Double(step.step) / Double(max(1, step.steps))
    let head = "\(step.variant) \(step.stage) "
    var tail = " \(Int(share * 100))% \(step.step)/\(step.steps)  loss \(Figures.fixed(step.loss, 3))"
    let penalty = step.penalty > 0 ? "  penalty \(Figures.short(step.penalty))" : ""
    let speed =
      "  \(Figures.count(Int(step.tokensPerSecond))) tokens/s  \(Figures.duration(step.secondsLeft)) left"
    if StopSignal.stopRequested { tail += "  stopping" }
    let room = min(40, Terminal.width - 1 - head.count - tail.count - penalty.count - speed.count)
    guard room >= 5 else { return fitted(head + tail + penalty + speed) }
    let full = Int((share * Double(room)).rounded(.down))
    let drawing = String(repeating: "━", count: full)
    let rest = Style.dim.paint(String(repeating: "─", count: room - full))
    // A penalty that is nothing or everything means that its strength is off.
    let odd = step.penalty > 0 && (step.penalty < 0.001 * step.loss || step.penalty > 0.5 * step.loss)
    return head + Style.green.paint(drawing) + rest + tail + (odd ? Style.yellow.paint(penalty) : penalty)
      + speed
  }

  private func fitted(_ text: String) -> String {
    let (text, room) = (Terminal.plain(text).replacing("\n", with: " "), max(10, Terminal.width - 1))
    return text.count <= room ? text : String(text.prefix(room - 1)) + "…"
  }

  private func status(_ text: String) {
    Terminal.raw("\r\u{1B}[K" + text)
    hasStatus = true
    drawn = Machine.seconds
  }

  /// Takes the status line away, so that something lasting can be written.
  func clear() {
    guard hasStatus else { return }
    Terminal.raw("\r\u{1B}[K")
    hasStatus = false
    drawn = -.infinity
  }

  private func line(_ text: String) {
    guard form != .quiet else { return }
    clear()
    let text = Terminal.plain(text)
    Terminal.out(form == .lines ? LedgerWriter.universalTime() + " " + text : text)
  }
}
