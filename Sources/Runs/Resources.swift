// What this process may use of the machine: memory, disk, processors, with the limits of containers counted in.
// Every figure is nil where the system does not tell.
import Foundation
import Glibc

/// Limits and reserves of the machine, read when asked.
public enum Resources {
  /// Bytes that can still be taken: the least of what is available, what the cgroup leaves and the address
  /// space.
  public static var availableMemory: Int? {
    [memoryInfo("MemAvailable"), cgroupMemoryLeft, addressSpaceLeft].compactMap { $0 }.min()
  }
  /// Bytes of memory in the machine.
  public static var totalMemory: Int? { memoryInfo("MemTotal") }
  /// Resident bytes of this process now.
  public static var residentMemory: Int? {
    text("/proc/self/statm").flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) }
      .map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) }
  }

  /// A field of /proc/meminfo in bytes.
  public static func memoryInfo(_ field: String) -> Int? {
    for line in text("/proc/meminfo")?.split(separator: "\n") ?? [] where line.hasPrefix(field + ":") {
      return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    return nil
  }

  /// Bytes below the memory limit of the control group, version 2 or 1.
  public static var cgroupMemoryLeft: Int? {
    for (limit, usage) in [
      ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ] {
      if let limit = number("/sys/fs/cgroup/" + limit), limit < 1 << 60,
        let used = number("/sys/fs/cgroup/" + usage)
      {
        return max(0, limit - used)
      }
    }
    return nil
  }
  private static var addressSpaceLeft: Int? {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, limit.rlim_cur < 1 << 60 else {
      return nil
    }
    let used = text("/proc/self/statm").flatMap { $0.split(separator: " ").first }.flatMap { Int($0) } ?? 0
    return max(0, Int(limit.rlim_cur) - used * Int(sysconf(Int32(_SC_PAGESIZE))))
  }

  /// Processors' worth of time that the control group allows; nil without a quota.
  public static var processorQuota: Double? {
    if let words = text("/sys/fs/cgroup/cpu.max")?.split(whereSeparator: \.isWhitespace), words.count == 2 {
      guard let quota = Double(words[0]), let period = Double(words[1]), period > 0 else { return nil }
      return quota / period
    }
    guard let quota = number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), quota > 0,
      let period = number("/sys/fs/cgroup/cpu/cpu.cfs_period_us"), period > 0
    else { return nil }
    return Double(quota) / Double(period)
  }
  /// Processors that the scheduler may put this process on.
  public static var allowedProcessors: Int {
    for line in text("/proc/self/status")?.split(separator: "\n") ?? [] where line.hasPrefix("Cpus_allowed:") {
      let mask = line.dropFirst("Cpus_allowed:".count)
      return max(1, mask.reduce(0) { $0 + ($1.hexDigitValue?.nonzeroBitCount ?? 0) })
    }
    return max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  }

  /// Bytes that this user may still write below a path, which need not exist yet.
  public static func freeDisk(at path: String) -> Int? {
    var place = path.isEmpty ? "." : path
    while true {
      var status = statvfs()
      if statvfs(place, &status) == 0 {
        return Int(
          clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
      }
      let parent = (place as NSString).deletingLastPathComponent
      guard parent != place, !parent.isEmpty else { return nil }
      place = parent
    }
  }

  /// A small file of the system as text.
  public static func text(_ path: String) -> String? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 14)
    while bytes.count < 1 << 20 {
      let count = fread(&chunk, 1, chunk.count, file)
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
  private static func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}
