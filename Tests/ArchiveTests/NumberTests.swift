// Checksums against published answers and their portable twins; 16-bit floats over all their patterns.
// The conversions decide every weight that is loaded, so they are checked exhaustively.
import Archive
import CChecksums
import Foundation
import TestKit
import Testing

@Suite struct NumberTests {
  @Test func knownSums() throws {
    func crc(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { CRC32C.hash($0) } }
    #expect(crc(Array("123456789".utf8)) == 0xE306_9283)
    #expect(crc([]) == 0)
    #expect(crc([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(crc([UInt8](repeating: 255, count: 32)) == 0x62A8_AB43)
    #expect(crc((0..<32).map { UInt8($0) }) == 0x46DD_794E)
    #expect(SHA256.hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(SHA256.hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      SHA256.hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    #expect(
      SHA256.hash(String(repeating: "a", count: 1_000_000))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  @Test func piecesAndTwinsAgree() throws {
    var random = Numbers(state: 3)
    for length in Array(0..<200) + [1000, 4096, 70_001] {
      let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
      bytes.withUnsafeBytes { whole in
        var crc = CRC32C()
        var sha = SHA256Stream()
        var start = 0
        while start < length {
          let end = min(length, start + Int.random(in: 1...90, using: &random))
          crc.update(UnsafeRawBufferPointer(rebasing: whole[start..<end]))
          sha.update(UnsafeRawBufferPointer(rebasing: whole[start..<end]))
          start = end
        }
        #expect(crc.value == CRC32C.hash(whole))
        #expect(crc.value == cchecksums_crc32c_portable(0, whole.baseAddress, whole.count))
        #expect(sha.finish() == SHA256.hash(whole))
        #expect(sha.finish() == sha.finish())
        var fast = (1...8).map { UInt32($0) }
        var portable = fast
        cchecksums_sha256_blocks(&fast, whole.baseAddress, whole.count / 64)
        cchecksums_sha256_blocks_portable(&portable, whole.baseAddress, whole.count / 64)
        #expect(fast == portable)
      }
    }
  }

  @Test func sumOfAFile() throws {
    try withTemporaryDirectory { folder in
      try put([UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000), at: folder + "/a")
      #expect(
        try sha256(ofFile: folder + "/a")
          == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
      #expect(archiveError { _ = try sha256(ofFile: folder + "/b") }?.kind == .missing)
      #expect(archiveError { _ = try sha256(ofFile: folder) }?.kind == .damaged)
    }
  }

  @Test func halfIsExactForAllPatterns() {
    for bits in UInt16.min...UInt16.max {
      let ours = Half.expand(bits)
      let theirs = Float(Float16(bitPattern: bits))
      #expect(theirs.isNaN ? ours.isNaN : ours.bitPattern == theirs.bitPattern, "\(bits)")
    }
  }

  @Test func bfloat16RoundsToNearestEven() {
    var wrong = 0
    for bits in UInt16.min...UInt16.max {
      let value = BFloat16.expand(bits)
      let back = BFloat16.round(value)
      if value.isNaN {
        if !BFloat16.expand(back).isNaN || back >> 15 != bits >> 15 { wrong += 1 }
        continue
      }
      if back != bits { wrong += 1 }
      guard value.isFinite else { continue }
      // Between this pattern and the next larger magnitude: below the middle, the middle (to even), above it.
      let pattern = value.bitPattern
      let next = bits &+ 1
      if BFloat16.round(Float(bitPattern: pattern | 0x7FFF)) != bits { wrong += 1 }
      if BFloat16.round(Float(bitPattern: pattern | 0x8000)) != (bits & 1 == 0 ? bits : next) { wrong += 1 }
      if BFloat16.round(Float(bitPattern: pattern | 0x8001)) != next { wrong += 1 }
      if BFloat16.round(Float(bitPattern: pattern | 0xFFFF)) != next { wrong += 1 }
    }
    #expect(wrong == 0)
    #expect(BFloat16.expand(BFloat16.round(.greatestFiniteMagnitude)) == .infinity)
    for payload: UInt32 in [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF] {
      #expect(BFloat16.expand(BFloat16.round(Float(bitPattern: payload))).isNaN)
    }
  }
}
