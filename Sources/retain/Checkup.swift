// The checks behind `retain doctor`; each looks at one thing and says what to do about it.
import Archive
import Experiment
import Foundation
import Glibc
import Runs
import TensorCPU
import TensorCore

enum Checkup {
  /// Everything about the machine, and about a folder as a place for runs.
  static func machine(place: String) -> [Finding] {
    [
      processor, blas, oneDNN, arithmetic, threads, hdf5(place), memory, disk(place), locking(place), hugePages,
    ]
  }

  /// Whether an experiment fits into memory and onto the disk.
  static func experiment(_ plan: ExperimentPlan) throws -> [Finding] {
    let assembly = try Assembly(plan, reuse: false)
    let isReused = !plan.compare.isEmpty
    let variants = [plan] + plan.compare.compactMap { plan.variant($0.name) }
    let needed = variants.map { MemoryEstimate($0, assembly: assembly, isReused: isReused).bytes }.max() ?? 0
    let available = (Resources.availableMemory ?? .max / 2) + (Resources.residentMemory ?? 0)
    let text =
      "\(plan.name) needs about \(Figures.bytes(needed)) of memory, \(Figures.bytes(available)) can be had"
    let memory: Finding =
      needed > available
      ? .broken(
        "fits", text, remedy: "lower training.micro_batch_size or training.sequence_len",
        code: Runs.ExitCode.resources)
      : .ok("fits", text)
    return [memory, disk(plan.outputDirectory, name: "output")]
  }

  private static var processor: Finding {
    let text = Resources.text("/proc/cpuinfo") ?? ""
    func field(_ names: String...) -> String? {
      for line in text.split(separator: "\n") {
        guard let colon = line.firstIndex(of: ":") else { continue }
        if names.contains(line[..<colon].trimmingCharacters(in: .whitespaces)) {
          return line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        }
      }
      return nil
    }
    let flags = Set((field("flags", "Features") ?? "").split(separator: " ").map(String.init))
    let wanted = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16"]
    let found = wanted.filter(flags.contains)
    let model = field("model name") ?? "processor"
    let line =
      "\(model): \(found.isEmpty ? "no vector extensions known to retain" : found.joined(separator: ", "))"
    if flags.contains("avx2") && flags.contains("fma") || flags.contains("asimd") {
      return .ok("processor", line)
    }
    return .warning("processor", line, remedy: "training works but is slow; use a machine with AVX2 and FMA")
  }

  private static var blas: Finding {
    let line = "OpenBLAS core \(BLASCore.name) (\(CPUBackend.blasConfiguration.trimmingCharacters(in: .whitespaces)))"
    if let override = BLASCore.wanted {
      return .warning(
        "blas", line + "; OPENBLAS_CORETYPE=\(override) overrides the choice",
        remedy: "unset OPENBLAS_CORETYPE, unless results must match another machine's bit for bit")
    }
    if BLASCore.isOld {
      return .warning(
        "blas", line,
        remedy: "these kernels are for old processors; a newer OpenBLAS may know this one better")
    }
    return .ok("blas", line)
  }

  /// oneDNN and what it makes of this CPU.
  private static var oneDNN: Finding {
    guard let version = CPUBackend.oneDNNVersion else {
      return .warning(
        "onednn", "Retain was built without oneDNN: OpenBLAS computes every product, in fp32",
        remedy: "install libdnnl-dev and run make build for precision: bf16")
    }
    let fate =
      CPUBackend.supportsBF16
      ? "runs on this CPU's own instructions" : "falls back to fp32: \(CPUBackend.whyNoBF16)"
    return .ok("onednn", "oneDNN \(version); precision: bf16 \(fate)")
  }

  /// One product by the fast and by the plain backend.
  private static var arithmetic: Finding {
    let size = 67
    var random = RandomStream(seed: 1)
    let values = (0..<2 * size * size).map { _ in Float(random.normal()) }
    func product(_ backend: some Backend) -> [Float] {
      let (a, b, c) = (backend.empty(size, size), backend.empty(size, size), backend.empty(size, size))
      for index in 0..<size * size {
        a.buffer[index] = values[index]
        b.buffer[index] = values[size * size + index]
      }
      backend.multiply(a, transposed: false, b, transposed: true, into: c, accumulate: false)
      return c.toArray()
    }
    let difference =
      zip(product(CPUBackend(threads: 2)), product(ReferenceBackend())).map { abs($0 - $1) }.max() ?? .nan
    return difference < 1e-3
      ? .ok(
        "products",
        "products agree with plain loops, largest difference \(Figures.short(Double(difference)))")
      : .broken(
        "products", "products differ from plain loops by \(difference)",
        remedy: "install another OpenBLAS (libopenblas0-pthread) and oneDNN (libdnnl-dev), and build again",
        code: Runs.ExitCode.unavailable)
  }

  private static var threads: Finding {
    let (online, allowed) = (CPUBackend.availableProcessors, Resources.allowedProcessors)
    let quota = Resources.processorQuota
    var line = "\(online) processors"
    if allowed < online { line += ", \(allowed) allowed by the affinity mask" }
    if let quota { line += ", quota of \(Figures.fixed(quota, 1))" }
    let usable = min(allowed, quota.map { max(1, Int($0)) } ?? allowed)
    if usable < online {
      return .warning(
        "threads", line, remedy: "set threads: \(usable) in the experiment, more only wait for each other")
    }
    return .ok("threads", line)
  }

  /// Writes a small file and reads it back.
  private static func hdf5(_ place: String) -> Finding {
    guard let version = HDF5.version else {
      return .broken(
        "hdf5", "libhdf5 does not answer", remedy: "install libhdf5 (apt install libhdf5-103-1)",
        code: Runs.ExitCode.unavailable)
    }
    guard access(place, W_OK) == 0 else {
      return .ok("hdf5", "version \(version); not tried, the folder is not writable")
    }
    let path = place + "/.retain-doctor-\(getpid()).h5"
    defer { unlink(path) }
    var archive = ArchiveWriter()
    archive.add("values", floats: [1, 2, 3], description: "a trial")
    do {
      try archive.write(to: path, metadata: ["kind": "trial"])
      let reader = try ArchiveReader(path: path)
      try reader.verify()
      guard try reader.floats("values") == [1, 2, 3] else {
        return .broken(
          "hdf5", "version \(version): what is read is not what was written", remedy: "check the disk",
          code: Runs.ExitCode.unavailable)
      }
      return .ok("hdf5", "version \(version); wrote a file and read it back")
    } catch {
      return .broken(
        "hdf5", "version \(version): \(error.reason)", remedy: error.hint, code: Runs.ExitCode.unavailable)
    }
  }

  private static var memory: Finding {
    guard let available = Resources.availableMemory else { return .ok("memory", "the system does not tell") }
    var line = "\(Figures.bytes(available)) can be had"
    if let total = Resources.totalMemory { line += " of \(Figures.bytes(total))" }
    if let left = Resources.cgroupMemoryLeft { line += "; \(Figures.bytes(left)) left in the control group" }
    if available < 128 << 20 {
      return .broken("memory", line, remedy: "free memory or raise the limit", code: Runs.ExitCode.resources)
    }
    return available < 1 << 30
      ? .warning("memory", line, remedy: "enough for small models only") : .ok("memory", line)
  }

  private static func disk(_ place: String, name: String = "disk") -> Finding {
    guard let free = Resources.freeDisk(at: place) else { return .ok(name, "the system does not tell") }
    let line = "\(Figures.bytes(free)) free at \(place)"
    if free < 16 << 20 {
      return .broken(name, line, remedy: "free some space", code: Runs.ExitCode.resources)
    }
    return free < 1 << 30
      ? .warning(
        name, line, remedy: "checkpoints of larger models will not fit; retain run --dry-run says what a run takes")
      : .ok(name, line)
  }

  /// Takes a lock twice; the second must be refused.
  private static func locking(_ place: String) -> Finding {
    guard access(place, W_OK) == 0 else {
      return .warning("locking", "\(place) is not writable", remedy: "choose an output_dir that is")
    }
    let name = ".retain-doctor-\(getpid()).lock"
    defer { unlink(place + "/" + name) }
    let remedy = "two runs in one directory would not notice each other here; use a local disk for output_dir"
    do {
      let lock = try DirectoryLock(directory: place, name: name)
      defer { withExtendedLifetime(lock) {} }
      do {
        let second = try DirectoryLock(directory: place, name: name)
        return withExtendedLifetime(second) {
          .broken("locking", "a lock was given twice", remedy: remedy, code: Runs.ExitCode.unavailable)
        }
      } catch { return .ok("locking", "a second run in one directory is refused") }
    } catch { return .broken("locking", error.reason, remedy: remedy, code: Runs.ExitCode.unavailable) }
  }

  private static var hugePages: Finding {
    let mode = Resources.text("/sys/kernel/mm/transparent_hugepage/enabled")?
      .split(whereSeparator: \.isWhitespace).first { $0.hasPrefix("[") }.map { $0.dropFirst().dropLast() }
    switch mode {
    case nil: return .ok("huge pages", "the system does not tell")
    case "never":
      return .warning(
        "huge pages", "transparent huge pages are off",
        remedy:
          "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled makes large tensors a little faster")
    case .some(let mode): return .ok("huge pages", "transparent huge pages: \(mode)")
    }
  }
}
