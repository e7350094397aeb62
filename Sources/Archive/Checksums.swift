// CRC32C for accidents and SHA-256 for identity, over bytes, streams and files.
// The compression functions are C (CChecksums); padding, state and text are here.
import CChecksums

/// CRC32C (Castagnoli), continued over pieces.
public struct CRC32C: Sendable, Equatable {
  public private(set) var value: UInt32 = 0
  public init() {}
  /// - Cost: about 8 bytes in 3 cycles where the processor has SSE4.2.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    value = cchecksums_crc32c(value, start, bytes.count)
  }
  public static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var sum = CRC32C()
    sum.update(bytes)
    return sum.value
  }
}

/// SHA-256 of bytes as 64 lowercase hexadecimal digits.
public enum SHA256 {
  public static func hash(_ bytes: UnsafeRawBufferPointer) -> String {
    var stream = SHA256Stream()
    stream.update(bytes)
    return stream.finish()
  }
  public static func hash(_ text: String) -> String {
    Array(text.utf8).withUnsafeBytes { hash($0) }
  }
}

/// SHA-256 over pieces of any length.
public struct SHA256Stream: Sendable {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  private var tail: [UInt8] = []
  private var count: UInt64 = 0
  public init() {}

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    count &+= UInt64(bytes.count)
    var rest = bytes[...]
    if !tail.isEmpty {
      let taken = min(64 - tail.count, rest.count)
      tail.append(contentsOf: rest.prefix(taken))
      rest = rest.dropFirst(taken)
      guard tail.count == 64 else { return }
      let block = tail
      tail.removeAll(keepingCapacity: true)
      block.withUnsafeBytes { absorb($0) }
    }
    let whole = rest.count / 64 * 64
    absorb(UnsafeRawBufferPointer(rebasing: rest.prefix(whole)))
    tail.append(contentsOf: rest.dropFirst(whole))
  }
  private mutating func absorb(_ blocks: UnsafeRawBufferPointer) {
    guard let start = blocks.baseAddress else { return }
    cchecksums_sha256_blocks(&state, start, blocks.count / 64)
  }
  /// The sum of everything so far; the stream itself may go on.
  public func finish() -> String {
    var copy = self
    let zeros = (119 - Int(count % 64)) % 64
    var end = [0x80] + [UInt8](repeating: 0, count: zeros)
    for shift in stride(from: 56, through: 0, by: -8) {
      end.append(UInt8(truncatingIfNeeded: (count &* 8) >> shift))
    }
    end.withUnsafeBytes { copy.update($0) }
    return copy.state.map { hexadecimal($0) }.joined()
  }
}

/// The SHA-256 of a regular file.
///
/// - Throws: `ArchiveError` of kind missing, permission or io.
public func sha256(ofFile path: String) throws(ArchiveError) -> String {
  let file = try ReadableFile(path)
  var stream = SHA256Stream()
  try file.pieces(0..<file.size) { stream.update($0) }
  return stream.finish()
}

/// Eight lowercase hexadecimal digits.
func hexadecimal(_ value: UInt32) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 8 - digits.count) + digits
}
