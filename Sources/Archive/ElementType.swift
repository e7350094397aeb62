// The number types a file may hold, and the 16-bit floats converted by hand.
// libhdf5 breaks ties wrongly when it rounds to bfloat16, so we round and it only ever sees finished bytes.

/// The type of the elements of an entry; raw values are the names in manifests and safetensors headers.
public enum ElementType: String, Sendable, CaseIterable {
  case float32 = "F32"
  case bfloat16 = "BF16"
  case float64 = "F64"
  case int32 = "I32"
  case int64 = "I64"
  case uint8 = "U8"
  case uint16 = "U16"
  case uint64 = "U64"
  /// One UTF-8 text; its shape is its length in bytes.
  case text = "TEXT"

  /// Bytes an element takes.
  public var size: Int {
    switch self {
    case .float32, .int32: 4
    case .bfloat16, .uint16: 2
    case .float64, .int64, .uint64: 8
    case .uint8, .text: 1
    }
  }
}

/// The product of a shape, or nil where a side is negative or the sides other than zero overflow together.
func checkedCount(_ shape: [Int]) -> Int? {
  var product = 1
  var hasZero = false
  for side in shape {
    guard side >= 0 else { return nil }
    if side == 0 {
      hasZero = true
    } else {
      let (value, overflow) = product.multipliedReportingOverflow(by: side)
      guard !overflow else { return nil }
      product = value
    }
  }
  return hasZero ? 0 : product
}

/// bfloat16 as its bit pattern: the upper half of a binary32.
public enum BFloat16 {
  /// Rounds to nearest, ties to even; overflow gives infinity, NaN stays NaN with its sign.
  @inlinable public static func round(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16
    return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? (bits >> 16) | 0x40 : rounded)
  }
  /// Exact.
  @inlinable public static func expand(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }
}

/// binary16 as its bit pattern.
public enum Half {
  /// Exact.
  @inlinable public static func expand(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = UInt32(bits >> 10) & 31
    let fraction = UInt32(bits) & 0x3FF
    switch exponent {
    case 0: return Float(bitPattern: sign | (Float(fraction) * 0x1p-24).bitPattern)
    case 31: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
  }
}
