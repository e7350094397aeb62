// How much room a chain's checkpoints take, from shapes alone: for the dry run, and for a run before its first step.
import Continual
import Experiment
import Models
import Training

/// Checkpoints of one variant of an experiment.
///
/// With P parameters a stage end has 4P, the state of the methods and the tokenizer; within a stage the optimizer's
/// moments stand beside them.
public struct DiskEstimate: Sendable {
  /// How many stay: the base, every stage end, and the newest within stages.
  public let checkpoints: Int
  /// Of those that stay.
  public let bytes: Int
  /// Of the largest, which is written beside the others.
  public let largest: Int

  public init(_ variant: ExperimentPlan, assembly: Assembly) {
    let chain = StateOutline(variant, assembly, isOver: true)
    var methods: [MethodPlan] = []
    for method in variant.methods + variant.stages.flatMap({ $0.methods ?? [] }) where !methods.contains(method) {
      methods.append(method)
    }
    let state = methods.reduce(0) { $0 + ($1.type?.stateBytes($1.methodOptions, chain) ?? 0) }
    let end = 4 * chain.parameters + state + (assembly.subject.languageModel?.tokenizer?.json.count ?? 0)
    var (within, most) = (0, end)
    for (index, stage) in variant.stages.enumerated() {
      let every = variant.checkpoint.saveSteps
      if every > 0 { within += max(0, assembly.schedule(index, of: variant).steps - 1) / every }
      let optimizer = MemoryEstimate.optimizerState(stage, assembly)
      most = max(most, end + optimizer.moments + optimizer.adapter)
    }
    let ends = 1 + variant.stages.count
    // Stage ends keep what the next stage goes on with.
    let moments = variant.stages.dropFirst().filter(\.training.keepsOptimizerState).reduce(0) {
      $0 + MemoryEstimate.optimizerState($1, assembly).moments
    }
    let kept = min(max(1, variant.checkpoint.saveTotalLimit), within)
    (checkpoints, bytes, largest) = (ends + kept, ends * end + moments + kept * most, most)
  }
}
