// SIGINT, SIGTERM, SIGHUP, SIGUSR1: finish the step, save, exit 75. SIGUSR2: save and go on. Second SIGINT: leave at once.
import Glibc
import Synchronization

private let stopRequests = Atomic<Int>(0)
private let saveRequests = Atomic<Int>(0)

public enum StopSignal {
  /// Handlers only count; the training loop looks between steps.
  public static func install() {
    for number in [SIGINT, SIGTERM, SIGHUP, SIGUSR1] {
      // Under nohup a hang-up is none of ours.
      if number == SIGHUP, isIgnored(number) { continue }
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { number in
        let earlier = stopRequests.add(1, ordering: .relaxed).oldValue
        if number == SIGINT, earlier > 0 { _exit(130) }
      }
      sigaction(number, &action, nil)
    }
    var save = sigaction()
    save.__sigaction_handler.sa_handler = { _ in saveRequests.add(1, ordering: .relaxed) }
    sigaction(SIGUSR2, &save, nil)
    // A closed pipe or a file-size limit must come back as an error of the call.
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
  }
  private static func isIgnored(_ number: Int32) -> Bool {
    var inherited = sigaction()
    guard sigaction(number, nil, &inherited) == 0 else { return false }
    return unsafeBitCast(inherited.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
  public static var stopRequested: Bool { stopRequests.load(ordering: .relaxed) > 0 }
  public static func takeSaveRequest() -> Bool { saveRequests.exchange(0, ordering: .relaxed) > 0 }
}
