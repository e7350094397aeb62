// Segments that go on from others: what they see, where they stand, and that they have no way back.
import TensorCPU
import TensorCore
import Testing

@Suite struct SegmentsTests {
  @Test func segmentsWithoutParentsSeeNothingElse() {
    let segments = Segments(lengths: [3, 0, 2], parents: [nil, nil, nil])
    #expect(segments == Segments(lengths: [3, 0, 2]) && !segments.hasPrefixes)
    #expect(segments.count == 3 && segments.tokens == 5 && segments[2] == 3..<5 && segments.longest == 3)
    #expect((0..<3).allSatisfy { segments.prefix(of: $0).isEmpty && segments.position(of: $0) == 0 })
  }

  @Test func prefixesJoinWhereTheyTouch() {
    // Examples, a question with two candidates, another question with one, a text apart.
    let segments = Segments(lengths: [4, 3, 2, 1, 5, 2, 6], parents: [nil, 0, 1, 1, 0, 4, nil])
    #expect(segments.hasPrefixes)
    #expect(
      (0..<7).map(segments.prefix) == [[], [0..<4], [0..<7], [0..<7], [0..<4], [0..<4, 10..<15], []])
    #expect((0..<7).map(segments.position) == [0, 4, 7, 7, 4, 9, 0])
    #expect(segments.longest == 11)
  }

  @Test func prefixesHaveNoGradient() async {
    await #expect(processExitsWith: .failure) {
      let backend = CPUBackend(threads: 1)
      let x = backend.zeros(3, 2)
      backend.attentionGradient(
        x, q: x, k: x, v: x, out: x, logSumExp: backend.zeros(3, 1),
        segments: Segments(lengths: [1, 2], parents: [nil, 0]),
        shape: AttentionShape(heads: 1, keyHeads: 1, headDimension: 2, scale: 1), dq: backend.empty(3, 2),
        dk: backend.empty(3, 2), dv: backend.empty(3, 2))
    }
  }
}
