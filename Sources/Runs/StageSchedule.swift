// How long a stage is, in rows and steps, before it begins.
import Corpus
import Experiment
import TensorCore
import Training

/// The rows and steps of one stage: a pure function of its data, settings and seed.
public struct StageSchedule: Sendable {
  public let rowsPerStep: Int
  /// Rows of the whole stage; the last step may have fewer than `rowsPerStep`.
  public let rows: Int
  public let steps: Int
  public let inputTokens: Int
  public let learningRate: Schedule
  private let examples: [Example]
  private let weights: [Double]?
  private let sequenceLength: Int
  private let packing: Bool
  private let seed: UInt64

  public init(
    _ text: TextSet, _ training: TrainingPlan, contextLength: Int, place: Schedule.Place, random: RandomStream
  ) {
    examples = text.examples
    weights = text.weights
    sequenceLength = min(training.sequenceLength, contextLength)
    packing = training.samplePacking
    seed = random.key
    rowsPerStep = training.microBatchSize * training.gradientAccumulationSteps
    var rows = 0
    var tokens = 0
    var stream = RowStream(
      examples: text.examples, weights: text.weights, sequenceLength: sequenceLength,
      packing: training.samplePacking, seed: seed)
    func isOver() -> Bool {
      switch training.length {
      case .epochs(let count): stream.cursor.epoch >= count
      case .steps(let count): rows >= count * training.microBatchSize * training.gradientAccumulationSteps
      case .tokens(let count): tokens >= count
      }
    }
    while !isOver(), let row = stream.next() {
      rows += 1
      tokens += row.inputs.count
    }
    self.rows = rows
    inputTokens = tokens
    steps = (rows + rowsPerStep - 1) / rowsPerStep
    learningRate = Schedule(
      shape: Schedule.Shape(rawValue: training.scheduler.rawValue) ?? .cosine, peak: training.learningRate,
      steps: steps, warmupRatio: training.warmupRatio, minimumRatio: training.minLearningRateRatio,
      constantRatio: training.constantLearningRateRatio, place: place)
  }

  /// The rows from a cursor on.
  public func stream(from cursor: RowCursor) -> RowStream {
    RowStream(
      examples: examples, weights: weights, sequenceLength: sequenceLength, packing: packing, seed: seed,
      cursor: cursor)
  }
}
