// The contract of a backend: on random inputs of awkward shapes it gives what the reference gives.
// Any backend runs it; the same cases serve to prove that the thread count changes no bit.
import TensorCore

/// One function of the protocol on a list of shapes.
public struct ContractCase: Sendable, CustomStringConvertible {
  public let name: String
  let run: @Sendable (ContractBench) -> Void

  public init(_ name: String, _ run: @escaping @Sendable (ContractBench) -> Void) {
    self.name = name
    self.run = run
  }
  public var description: String { name }
}

public enum BackendContract {
  /// Every function of `Backend`, family by family.
  public static let cases = matrixCases + rowwiseCases + attentionCases + tokenCases + vectorCases

  /// What the backend does otherwise than the reference, at most a few lines a case; empty where it conforms.
  ///
  /// - Parameter tolerance: instead of the cases' own
  public static func failures(
    of backend: any Backend, in contractCase: ContractCase, seed: UInt64 = 1, tolerance: Tolerance? = nil
  ) -> [String] {
    let bench = ContractBench(backend, seed: seed)
    let reference = ContractBench(ReferenceBackend(), seed: seed)
    contractCase.run(bench)
    contractCase.run(reference)
    var failures = bench.strayWrites()
    if bench.outputs.count != reference.outputs.count {
      failures.append("\(bench.outputs.count) outputs, the reference has \(reference.outputs.count)")
    }
    for (found, expected) in zip(bench.outputs, reference.outputs) {
      if let failure = difference(found, expected, tolerance ?? expected.tolerance) { failures.append(failure) }
    }
    return Array(failures.prefix(8))
  }

  /// Outputs whose bits depend on the number of threads (1, 2 or 3) or on the run; empty where none does.
  public static func determinism(makeBackend: (_ threads: Int) -> any Backend) -> [String] {
    cases.flatMap { contractCase -> [String] in
      let runs = [1, 2, 3, 2].map { threads in
        let bench = ContractBench(makeBackend(threads), seed: 2)
        contractCase.run(bench)
        return bench.outputs
      }
      return runs.dropFirst().flatMap { run in
        zip(runs[0], run).compactMap { one, other in
          let same = one.values.map(\.bitPattern) == other.values.map(\.bitPattern)
          return same ? nil : "\(contractCase.name): \(one.name) has other bits on another number of threads"
        }
      }
    }
  }

  private static func difference(
    _ found: ContractBench.Output, _ expected: ContractBench.Output, _ tolerance: Tolerance
  ) -> String? {
    guard found.values.count == expected.values.count else {
      return "\(expected.name): \(found.values.count) values instead of \(expected.values.count)"
    }
    if let index = expected.values.firstIndex(where: { !$0.isFinite }) {
      return "\(expected.name): the reference itself gives \(expected.values[index]) at \(index)"
    }
    let largest = expected.values.reduce(expected.floor) { max($0, abs($1)) }
    let wrong = expected.values.indices.filter {
      !tolerance.accepts(found.values[$0], expected.values[$0], largest: largest)
    }
    guard let first = wrong.first else { return nil }
    return "\(expected.name): \(wrong.count) of \(expected.values.count) differ; "
      + "at \(first) found \(found.values[first]), expected \(expected.values[first]), largest \(largest)"
  }
}
