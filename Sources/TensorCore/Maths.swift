// The few functions of libm that Swift code above the kernels needs, in one place.
import Glibc

public enum Maths {
  public static func exp(_ x: Double) -> Double { Glibc.exp(x) }
  public static func log(_ x: Double) -> Double { Glibc.log(x) }
  public static func cos(_ x: Double) -> Double { Glibc.cos(x) }
  public static func sin(_ x: Double) -> Double { Glibc.sin(x) }
  public static func tanh(_ x: Double) -> Double { Glibc.tanh(x) }
  public static func pow(_ x: Double, _ y: Double) -> Double { Glibc.pow(x, y) }
}
