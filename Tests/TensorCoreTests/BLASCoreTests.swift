import CKernels
import Foundation
import TensorCPU
import TestKit
import Testing

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

  /// The program is started again under its own name, and the loader, which was told the program, is not.
  @Test func theProgramIsFoundUnlessItIsTheLoader() throws {
    try withTemporaryDirectory { folder in
      func program(_ target: String) throws -> String? {
        let link = folder + "/exe"
        try? FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
        return BLASCore.program(behind: link)
      }
      for path in ["/usr/bin/retain", "/opt/ld-tools/bin/retain", "/opt/ld.so/retain", "/tmp/old ld-linux"] {
        try #expect(program(path) == path)
      }
      for name in ["ld-linux-x86-64.so.2", "ld-2.31.so", "ld-musl-x86_64.so.1", "ld.so", "ld.so.1"] {
        try #expect(program("/lib64/" + name) == nil)
      }
      #expect(BLASCore.program(behind: folder + "/absent") == nil)
    }
    let own = try #require(BLASCore.program())
    #expect(own.hasPrefix("/") && FileManager.default.isExecutableFile(atPath: own))
  }

  /// Whatever this machine is, `machine.c` says of it what its kernels ask for.
  @Test func theLevelAgreesWithBF16() {
    if CPUBackend.supportsBF16 { #expect(ck_processor_level() == Int32(CK_PROCESSOR_AVX512_BF16)) }
  }
}
