// What a chain computes in: stages as their plan says, probes always in fp32.
import Experiment
import TensorCPU
import TensorCore

extension ChainRun {
  private var wantsBF16: Bool { plan.stages.contains { $0.training.precision == .bf16 } }
  /// Of the products in training, as results.json has it.
  var precision: Precision { wantsBF16 && CPUBackend.supportsBF16 ? .bf16 : .fp32 }

  /// Says where fp32 stands in for a wanted bf16.
  func notePrecision() throws {
    guard wantsBF16, !CPUBackend.supportsBF16 else { return }
    try note("precision: bf16 is not to be had, training runs in fp32: \(CPUBackend.whyNoBF16)")
  }

  /// Measures in fp32, whatever a stage trains in: so values compare between stages, variants and `retain eval`.
  func inFP32<Result>(_ body: () throws -> Result) rethrows -> Result {
    let outer = backend.precision
    backend.precision = .fp32
    defer { backend.precision = outer }
    return try body()
  }
}
