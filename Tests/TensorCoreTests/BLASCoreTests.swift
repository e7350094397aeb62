import CKernels
import Testing
import TensorCPU

/// A processor that OpenBLAS does not know must not be left with kernels of an older one.
@Suite struct BLASCoreTests {
  @Test func olderKernelsGiveWayToWhatTheProcessorCanDo() {
    let levels = [CK_PROCESSOR_OTHER, CK_PROCESSOR_AVX2, CK_PROCESSOR_AVX512, CK_PROCESSOR_AVX512_BF16]
      .map { Int32($0) }
    for core in ["Prescott", "Sandybridge", "Nehalem", "Barcelona", "GENERIC"] {
      #expect(levels.map { BLASCore.better(than: core, level: $0) } == [nil, "Haswell", "SkylakeX", "Cooperlake"])
    }
    // What is known to be new, and what nobody has heard of yet, stays.
    for core in ["Haswell", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids", "NeoverseN1", "Zen9"] {
      #expect(levels.allSatisfy { BLASCore.better(than: core, level: $0) == nil })
    }
  }

  /// Whatever this machine is, `machine.c` says of it what its kernels ask for.
  @Test func theLevelAgreesWithBF16() {
    if CPUBackend.supportsBF16 { #expect(ck_processor_level() == Int32(CK_PROCESSOR_AVX512_BF16)) }
  }
}
