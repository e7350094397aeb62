// Which kernels OpenBLAS runs: it knows the processors of its day and takes kernels of the nineties for any later one.
import CKernels
import COpenBLAS
import Glibc

/// The kernel set of OpenBLAS that this process runs on.
public enum BLASCore {
  /// What OpenBLAS reads when it is loaded.
  private static let variable = "OPENBLAS_CORETYPE"
  /// Holds the same where `replaceOld` wrote it.
  private static let mark = "RETAIN_BLAS_CORE"
  /// Kernel sets without AVX2 and FMA.
  private static let old: Set<String> = [
    "generic", "katmai", "coppermine", "northwood", "prescott", "banias", "atom", "core2", "penryn", "dunnington",
    "nehalem", "sandybridge", "athlon", "opteron", "opteron_sse3", "barcelona", "bobcat", "bulldozer", "piledriver",
    "steamroller", "excavator", "nano",
  ]

  /// The kernel set in use; part of what decides bits.
  public static var name: String { String(cString: openblas_get_corename()) }
  public static var isOld: Bool { old.contains(name.lowercased()) }

  /// What the user asked for by OPENBLAS_CORETYPE, or nil.
  public static var wanted: String? {
    guard let value = environment(variable), !value.isEmpty, value != environment(mark) else { return nil }
    return value
  }

  /// The best set for a processor that OpenBLAS took for an older one, or nil where it chose well.
  ///
  /// - Parameter level: of `ck_processor_level`
  public static func better(than core: String, level: Int32) -> String? {
    guard old.contains(core.lowercased()) else { return nil }
    switch Int(level) {
    case CK_PROCESSOR_AVX2: return "Haswell"
    case CK_PROCESSOR_AVX512: return "SkylakeX"
    case CK_PROCESSOR_AVX512_BF16: return "Cooperlake"
    default: return nil
    }
  }

  /// Starts this program again with kernels for this processor where OpenBLAS took those of an older one.
  ///
  /// OpenBLAS 0.3.21 does not know processors that came after it, gives them kernels without AVX, and reads the
  /// variable that says better only while it is loaded. Returns where nothing can be gained, or the user chose.
  /// - Cost: loading the program a second time, some hundredths of a second
  public static func replaceOld(arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) {
    guard environment(variable).map(\.isEmpty) ?? true, let core = better(than: name, level: ck_processor_level()),
      let path = program()
    else { return }
    setenv(variable, core, 1)
    setenv(mark, core, 1)
    // The kernel names the process after the path it is given, and nobody looks for `exe`; that link still leads to a
    // file that was replaced meanwhile.
    execv(path, arguments)
    execv("/proc/self/exe", arguments)
    // It did not come to that; the old kernels are slow and right.
    unsetenv(variable)
    unsetenv(mark)
  }

  /// The file of this process; nil where it is the dynamic loader, which would read the program's arguments as its own.
  public static func program(behind link: String = "/proc/self/exe") -> String? {
    var target = [CChar](repeating: 0, count: 4096)
    let count = readlink(link, &target, target.count)
    guard count > 0, count < target.count else { return nil }
    let path = String(decoding: target[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    let file = path.split(separator: "/").last ?? ""
    // ld-linux-x86-64.so.2, ld-2.31.so, ld-musl-x86_64.so.1, ld.so.
    return file.hasPrefix("ld-") || file.hasPrefix("ld.so") ? nil : path
  }

  private static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
