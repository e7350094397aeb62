// Facts about the machine and the process: time, memory, what decides bits.
import Glibc
import StrictJSON
import TensorCPU

public enum Machine {
  public static let version = "0.1.0"
  /// Seconds on a clock that never jumps.
  public static var seconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
  /// Largest resident size of this process so far.
  public static var peakBytes: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(0), &usage)
    return usage.ru_maxrss * 1024
  }
  /// What results.json keeps under `environment`.
  public static func environment(threads: Int, precision: String) -> [JSON.Member] {
    [
      .init("version", .string(version)), .init("threads", .integer(threads)),
      .init("blas_core", .string(BLASCore.name)), .init("onednn", JSON(CPUBackend.oneDNNVersion)),
      .init("precision", .string(precision)),
    ]
  }
}
