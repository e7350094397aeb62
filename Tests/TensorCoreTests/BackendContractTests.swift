// Runs the backend contract on every backend; the reference runs it too, as a check of the contract itself.
import TensorCPU
import TensorCore
import TestKit
import Testing

/// A backend under test; a further one is one more line in `all`.
struct NamedBackend: Sendable, CustomTestStringConvertible {
  let name: String
  let make: @Sendable () -> any Backend
  var testDescription: String { name }

  static let all: [NamedBackend] = [
    NamedBackend(name: "reference", make: { ReferenceBackend() }),
    NamedBackend(name: "cpu, 1 thread", make: { CPUBackend(threads: 1) }),
    NamedBackend(name: "cpu, 2 threads", make: { CPUBackend(threads: 2) }),
  ]
}

@Suite struct BackendContractTests {
  @Test(arguments: NamedBackend.all, BackendContract.cases)
  func givesWhatTheReferenceGives(_ backend: NamedBackend, _ contractCase: ContractCase) {
    #expect(BackendContract.failures(of: backend.make(), in: contractCase) == [])
  }

  @Test func theReferenceRepeatsItsBits() {
    #expect(BackendContract.determinism { _ in ReferenceBackend() } == [])
  }

  @Test func theThreadCountChangesNoBitOnTheCPU() {
    #expect(BackendContract.determinism { CPUBackend(threads: $0) } == [])
  }

  /// The contract must be able to fail: a wrong number, a write beside a window or to an input is noticed.
  @Test func noticesWrongNumbersAndStrayWrites() {
    let subject = ReferenceBackend()
    let identity = ObjectIdentifier(subject)
    func failure(_ spoil: @escaping @Sendable (_ input: Tensor, _ result: Tensor) -> Void) -> String {
      let spoiled = ContractCase("spoiled") { bench in
        let input = bench.normal("input", 3, 3, strided: true)
        let result = bench.normal("result", 3, 3, strided: true)
        if ObjectIdentifier(bench.backend) == identity { spoil(input, result) }
        bench.output("result", result, .sum)
      }
      return BackendContract.failures(of: subject, in: spoiled).joined()
    }
    #expect(failure { _, _ in } == "")
    #expect(failure { _, result in result.base[1] += 1e-3 }.contains("1 of 9 differ"))
    #expect(failure { _, result in result.base[1] = .nan }.contains("1 of 9 differ"))
    #expect(failure { _, result in result.base[-1] = 0 }.contains("outside the window"))
    #expect(failure { input, _ in input.base[0] += 1 }.contains("to an input"))
  }
}
