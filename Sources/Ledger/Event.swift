// The events of a run, one JSON object each, "event" first.
// What a rerun repeats exactly stands in the fields; what depends on the machine stands under "cost".

import StrictJSON

/// One line of the ledger.
public struct LedgerEvent: Sendable, Equatable {
  public var name: String
  /// Equal for an interrupted and an uninterrupted run.
  public var fields: [JSON.Member]
  /// Times, rates and memory; written as one object under `cost`, left out when empty.
  public var cost: [JSON.Member]

  public init(_ name: String, _ fields: [JSON.Member] = [], cost: [JSON.Member] = []) {
    self.name = name
    self.fields = fields
    self.cost = cost
  }

  public var json: JSON {
    .object(
      [.init("event", .string(name))] + fields + (cost.isEmpty ? [] : [.init("cost", .object(cost))]))
  }

  public static func == (left: LedgerEvent, right: LedgerEvent) -> Bool { left.json == right.json }
}

/// One optimizer step as the ledger records it.
public struct StepRecord: Sendable, Equatable {
  public var stage: String
  /// Within the stage, from 1.
  public var step: Int
  /// Nats per target token, without any penalty.
  public var loss: Double
  /// The methods' penalty, beside the loss; nil where no method has one.
  public var penalty: Double?
  public var learningRate: Double
  /// Before clipping.
  public var gradientNorm: Double
  /// Stage tokens seen in the stage so far, without replay.
  public var tokens: Int
  /// Replayed tokens so far.
  public var replayTokens: Int
  public var seconds: Double
  public var tokensPerSecond: Double

  public init(
    stage: String, step: Int, loss: Double, penalty: Double? = nil, learningRate: Double,
    gradientNorm: Double, tokens: Int, replayTokens: Int = 0, seconds: Double, tokensPerSecond: Double
  ) {
    self.stage = stage
    self.step = step
    self.loss = loss
    self.penalty = penalty
    self.learningRate = learningRate
    self.gradientNorm = gradientNorm
    self.tokens = tokens
    self.replayTokens = replayTokens
    self.seconds = seconds
    self.tokensPerSecond = tokensPerSecond
  }
}

extension LedgerEvent {
  /// The chain begins; what a report needs when results.json was never written.
  public static func runStarted(
    name: String, seed: Int, stages: [String], probes: [ProbeInfo], confidence: Double, bootstrap: Int,
    more: [JSON.Member] = [], environment: [JSON.Member] = []
  ) -> LedgerEvent {
    LedgerEvent(
      "run_started",
      [
        .init("name", .string(name)), .init("seed", .integer(seed)),
        .init("stages", .array(stages.map { .string($0) })),
        .init("probes", .array(probes.map(\.json))), .init("confidence", .number(confidence)),
        .init("bootstrap", .integer(bootstrap)),
      ] + more, cost: environment.isEmpty ? [] : [.init("environment", .object(environment))])
  }
  /// The run goes on from a checkpoint; the ledger was cut at its offset.
  public static func resumed(checkpoint: String, stage: String, step: Int) -> LedgerEvent {
    LedgerEvent(
      "resumed",
      [
        .init("checkpoint", .string(checkpoint)), .init("stage", .string(stage)),
        .init("step", .integer(step)),
      ])
  }
  public static func stageStarted(_ stage: String, steps: Int, more: [JSON.Member] = []) -> LedgerEvent {
    LedgerEvent(
      "stage_started", [.init("stage", .string(stage)), .init("steps", .integer(steps))] + more)
  }
  public static func step(_ record: StepRecord, more: [JSON.Member] = []) -> LedgerEvent {
    LedgerEvent(
      "step",
      [
        .init("stage", .string(record.stage)), .init("step", .integer(record.step)),
        .init("loss", .number(record.loss)), .init("penalty", JSON(record.penalty)),
        .init("learning_rate", .number(record.learningRate)),
        .init("grad_norm", .number(record.gradientNorm)), .init("tokens", .integer(record.tokens)),
        .init("replay_tokens", .integer(record.replayTokens)),
      ] + more,
      cost: [
        .init("seconds", .number(record.seconds)),
        .init("tokens_per_second", .number(record.tokensPerSecond)),
      ])
  }
  /// Loss on held-out rows of the stage, nats per target token.
  public static func validation(stage: String, step: Int, loss: Double, tokens: Int) -> LedgerEvent {
    LedgerEvent(
      "validation",
      [
        .init("stage", .string(stage)), .init("step", .integer(step)), .init("loss", .number(loss)),
        .init("tokens", .integer(tokens)),
      ])
  }
  /// A row of the matrix: `after` is `base` or the stage just ended. Keeps the sums per document.
  public static func measurement(_ measurement: Measurement, after name: String) -> LedgerEvent {
    LedgerEvent("measurement", [.init("after", .string(name))] + (measurement.json.members ?? []))
  }
  /// A measurement inside a stage (`eval_steps`), value and error only.
  public static func measurement(_ measurement: Measurement, stage: String, step: Int) -> LedgerEvent {
    LedgerEvent(
      "measurement",
      [.init("stage", .string(stage)), .init("step", .integer(step))]
        + (measurement.shortJSON.members ?? []))
  }
  public static func checkpoint(
    path: String, stage: String, step: Int, bytes: Int, seconds: Double
  ) -> LedgerEvent {
    LedgerEvent(
      "checkpoint",
      [
        .init("path", .string(path)), .init("stage", .string(stage)), .init("step", .integer(step)),
        .init("bytes", .integer(bytes)),
      ], cost: [.init("seconds", .number(seconds))])
  }
  public static func warning(_ text: String, more: [JSON.Member] = []) -> LedgerEvent {
    LedgerEvent("warning", [.init("text", .string(text))] + more)
  }
  public static func gate(_ result: GateResult) -> LedgerEvent {
    LedgerEvent("gate", result.json.members ?? [])
  }
  public static func stageEnded(
    _ stage: String, steps: Int, tokens: Int, seconds: Double, more: [JSON.Member] = []
  ) -> LedgerEvent {
    LedgerEvent(
      "stage_ended",
      [.init("stage", .string(stage)), .init("steps", .integer(steps)), .init("tokens", .integer(tokens))]
        + more, cost: [.init("seconds", .number(seconds))])
  }
  /// A stop that can be resumed: a signal, the time limit.
  public static func interrupted(reason: String, stage: String, step: Int) -> LedgerEvent {
    LedgerEvent(
      "interrupted",
      [.init("reason", .string(reason)), .init("stage", .string(stage)), .init("step", .integer(step))])
  }
  public static func diverged(stage: String, step: Int, reason: String) -> LedgerEvent {
    LedgerEvent(
      "diverged",
      [.init("stage", .string(stage)), .init("step", .integer(step)), .init("reason", .string(reason))])
  }
  public static func runFinished(
    status: RunResults.Status, seconds: Double, more: [JSON.Member] = []
  ) -> LedgerEvent {
    LedgerEvent(
      "run_finished", [.init("status", .string(status.rawValue))] + more,
      cost: [.init("seconds", .number(seconds))])
  }
}
