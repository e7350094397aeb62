import Runs
import Experiment
final class P: RunObserver {
  func message(_ t: String) { print(t) }
  func warning(_ t: String) { print("warning: \(t)") }
  func progress(_ s: StepProgress) { if s.isLogged { print("\(s.variant) \(s.stage) \(s.step)/\(s.steps) loss \(s.loss) pen \(s.penalty) \(Int(s.tokensPerSecond)) tok/s left \(Int(s.secondsLeft))s") } }
  func activity(_ t: String) { print("  \(t)") }
}
StopSignal.install()
do {
  let plan = try ExperimentPlan.load(CommandLine.arguments[1])
  let code = try ExperimentRun(plan, observer: P()).execute(fresh: false)
  print("exit", code)
} catch { print("error:", error) }
