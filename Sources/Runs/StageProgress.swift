// What a stage remembers between steps besides parameters, moments and method state.
import Corpus
import TensorCore

/// The running stage's counters; a checkpoint carries all of them.
struct StageProgress: Equatable {
  var cursor = RowCursor.start
  var step = 0
  var rows = 0
  /// Input tokens of stage rows and of replayed sequences.
  var stageTokens = 0
  var replayedTokens = 0
  var nonFiniteInARow = 0
  /// Running mean of the loss, for the watchdog; the number of steps in it.
  var meanLoss = 0.0
  var meanSteps = 0
  var bestValidation = Double.infinity
  var checksWithoutImprovement = 0
  var stoppedEarly = false

  func write(to writer: any StateWriter) {
    writer.group("progress", description: "where the running stage stands")
    writer.integers(
      "progress/cursor", [cursor.epoch, cursor.row], description: "epoch and row of the next training row")
    writer.integers(
      "progress/counters",
      [step, rows, stageTokens, replayedTokens, nonFiniteInARow, meanSteps, checksWithoutImprovement],
      description:
        "steps, rows, stage tokens, replayed tokens, non-finite steps in a row, steps in the running mean, validation checks without improvement"
    )
    writer.doubles(
      "progress/losses", [meanLoss, bestValidation], description: "running mean of the loss, best validation loss")
  }

  static func read(from reader: any StateReader) throws -> StageProgress {
    let (cursor, counters) = (try reader.integers("progress/cursor"), try reader.integers("progress/counters"))
    let losses = try reader.doubles("progress/losses")
    guard cursor.count == 2, counters.count == 7, losses.count == 2, (cursor + counters).allSatisfy({ $0 >= 0 }) else {
      throw RunError(ExitCode.badData, "the checkpoint's progress has another form")
    }
    var progress = StageProgress()
    progress.cursor = RowCursor(epoch: cursor[0], row: cursor[1])
    (progress.step, progress.rows, progress.stageTokens) = (counters[0], counters[1], counters[2])
    (progress.replayedTokens, progress.nonFiniteInARow) = (counters[3], counters[4])
    (progress.meanSteps, progress.checksWithoutImprovement) = (counters[5], counters[6])
    (progress.meanLoss, progress.bestValidation) = (losses[0], losses[1])
    return progress
  }
}
