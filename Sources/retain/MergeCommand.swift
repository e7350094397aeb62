// `retain merge`: weights averaged instead of trained; one strength, or a sweep that probes decide.
import ArgumentParser
import Corpus
import Foundation
import Ledger
import Merging
import Models
import Probes
import Runs
import StrictJSON
import TensorCPU
import TensorCore

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge", abstract: "Average the weights of a base and of models tuned from it.",
    discussion: """
      Models are Hugging Face folders or Retain checkpoints (.h5) of one architecture, layout and vocabulary; what is \
      written has the base's configuration and tokenizer, in float32. With several values of --alpha every one is \
      scored on the probes, and --pick decides which is written; probes that decided are no longer held out.

      Examples:
        retain merge base.h5 medical.h5 --alpha 0.5 --to merged
        retain merge base.h5 medical.h5 --alpha 0,0.5,1 --probe p=test.txt
        retain merge base.h5 medical.h5 legal.h5 --method ties --to merged
        retain merge base.h5 medical.h5 --method fisher --to merged \\
          --fisher-data general.jsonl --fisher-data medical.jsonl

      `retain list merges` shows the methods with their equations.
      """)

  @Argument(help: "Model that the others were tuned from.")
  var base: String
  @Argument(help: "Tuned models.")
  var tuned: [String]
  @Option(
    help: ArgumentHelp("One of \(MergeCatalog.cards.map(\.name).joined(separator: ", ")).", valueName: "name"),
    completion: .list(MergeCatalog.cards.map(\.name)))
  var method = "linear"
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Strength, or several, comma-separated; default: the method's.", valueName: "x,y"))
  var alpha: String?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Weights of the tuned models, comma-separated; default: all 1.", valueName: "x,y"))
  var weights: String?
  @Option(help: ArgumentHelp("Share of every task vector that is kept (ties, dare); default: 0.2.", valueName: "x"))
  var density: Double?
  @Option(help: ArgumentHelp("Seed of random choices (dare, fisher); default: 0.", valueName: "n"))
  var seed: UInt64?
  @Option(
    name: .customLong("fisher-data"),
    help: ArgumentHelp("What a model was trained on (fisher); once a model, the base first.", valueName: "path"))
  var fisherData: [String] = []
  @Option(help: ArgumentHelp("Sequences that each Fisher is taken over; default: 256.", valueName: "n"))
  var fisherExamples: Int?
  @Option(
    name: .customLong("probe"), help: ArgumentHelp("A probe; may be repeated.", valueName: "name=path[:type]"))
  var probes: [String] = []
  @Option(help: ArgumentHelp("Most tokens fed at a time; default: the model's context.", valueName: "n"))
  var window: Int?
  @Option(
    help: ArgumentHelp(
      "What decides between strengths: PROBE.METRIC, or best-mean, the mean over probes of the relative improvement "
        + "of their first metric against the base.", valueName: "metric"))
  var pick = "best-mean"
  @Option(name: .customLong("to"), help: "Folder to write, or a file that ends in .h5.")
  var destination: String?
  @Flag(help: "Write into a folder that is not empty.")
  var force = false
  @OptionGroup var threads: ThreadOption
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let way = try chosenMethod()
    let alphas = try numbers(alpha, of: "--alpha") ?? [way.card.defaultAlpha]
    for (index, alpha) in alphas.enumerated() where alphas[..<index].contains(alpha) {
      throw usage("--alpha: \(Figures.setting(alpha)) is given twice")
    }
    let weights = try chosenWeights()
    try way.check(weights: weights, alphas: alphas)
    let asked = try ProbeArgument.read(probes)
    try checkPurpose(alphas)
    let target = destination.map { ModelDestination(path: $0) }
    if !force { try target?.requireFree() }
    let rows = try fisherData.map { try DataReader.read(paths: DataReader.expand($0)) }

    let backend = try threads.backend()
    let host = try LoadedModel.load(base, on: backend)
    let prepared = try askingProbes { try asked.map { try PreparedProbe($0.definition, model: host) } }
    for probe in prepared { for note in probe.notes { Say.note("probe \(probe.name): \(note)") } }
    let decision = try decision(among: prepared)
    let ingredients = try ingredients(host, rows: rows, weights: weights, on: backend)
    try target?.prepare()

    let merge = try way.init(ingredients)
    let values = host.transformer.parameters.values
    func score() throws -> [Ledger.Measurement] {
      try prepared.flatMap { probe in
        try askingProbes { try probe.measure(host.transformer, window: window, on: backend) }
      }
    }
    let reference = try score()
    var candidates: [MergeCandidate] = []
    for (index, alpha) in alphas.enumerated() {
      try Self.write(merge, alpha, into: values)
      // At 0 every method gives the base, which has been asked.
      candidates.append(MergeCandidate(alpha: alpha, measurements: alpha == 0 ? reference : try score()))
      if alphas.count > 1 { Say.note("alpha \(Figures.setting(alpha)) scored, \(index + 1) of \(alphas.count)") }
    }
    guard let chosen = alphas.count == 1 ? 0 : decision.best(of: candidates, base: reference) else {
      throw RunError(Runs.ExitCode.badData, "no strength has a finite \(pick)", hint: "look at it with --json")
    }
    if chosen != alphas.count - 1 { try Self.write(merge, alphas[chosen], into: values) }
    let files = try target?.write(host, type: .float32) ?? []
    let outcome = Outcome(
      reference: reference, candidates: candidates, chosen: chosen, decision: decision, files: files)
    if json { Say.json(outcome.json(self, weights: weights)) } else { Terminal.out(outcome.text(self)) }
  }

  // MARK: What is asked for

  private func chosenMethod() throws -> any MergeMethod.Type {
    guard let way = MergeCatalog.method(named: method) else {
      throw usage(
        "--method: there is no merge called \(method)",
        hint: "merges: " + MergeCatalog.cards.map(\.name).joined(separator: ", "))
    }
    let given: [(option: MergeOption, isGiven: Bool)] = [
      (.weights, weights != nil), (.density, density != nil), (.seed, seed != nil),
      (.fisherData, !fisherData.isEmpty || fisherExamples != nil),
    ]
    for (option, isGiven) in given where isGiven && !way.card.options.contains(option) {
      let users = MergeCatalog.cards.filter { $0.options.contains(option) }.map(\.name)
      throw usage(
        "--\(option.rawValue) means nothing to \(method)", hint: "it is for " + users.joined(separator: ", "))
    }
    if way.card.options.contains(.fisherData), fisherData.count != tuned.count + 1 {
      throw usage(
        "\(method) needs --fisher-data for each of the \(tuned.count + 1) models, and has it for \(fisherData.count)",
        hint: "give it once a model, in the order base, tuned models")
    }
    if let density, !(density > 0 && density <= 1) { throw usage("--density \(density) is not in (0, 1]") }
    if let fisherExamples, fisherExamples < 1 { throw usage("--fisher-examples \(fisherExamples) looks at nothing") }
    return way
  }

  private func chosenWeights() throws -> [Double] {
    let weights = try numbers(weights, of: "--weights") ?? [Double](repeating: 1, count: tuned.count)
    guard weights.count == tuned.count else {
      throw usage("--weights: \(weights.count) for \(tuned.count) tuned models", hint: "the base has none")
    }
    return weights
  }

  /// A list of finite numbers; nil where the option is not given.
  private func numbers(_ text: String?, of option: String) throws -> [Double]? {
    try text?.split(separator: ",", omittingEmptySubsequences: false).map { part in
      guard let value = Double(part.trimmingCharacters(in: .whitespaces)), value.isFinite else {
        throw usage("\(option) \(text ?? ""): \"\(part)\" is not a number", hint: "for example \(option) 0.5,1")
      }
      return value
    }
  }

  private func checkPurpose(_ alphas: [Double]) throws {
    if probes.isEmpty, alphas.count > 1 {
      throw usage(
        "\(alphas.count) values of --alpha, and nothing to choose between them by", hint: "give --probe NAME=PATH")
    }
    if probes.isEmpty, destination == nil {
      throw usage("nothing would come of this merge", hint: "give --to DIR, or --probe NAME=PATH, or both")
    }
  }

  private func decision(among probes: [PreparedProbe]) throws -> MergePick {
    guard pick != "best-mean" else { return .bestMean }
    let known = probes.flatMap { probe in probe.metrics.map { "\(probe.name).\($0.name)" } }
    guard known.contains(pick) else {
      throw usage("--pick: there is no \(pick)", hint: "best-mean" + known.map { ", " + $0 }.joined())
    }
    return .metric(pick)
  }

  // MARK: What is merged

  /// Every vector of the merge; models are loaded one after another, and only their vectors stay.
  private func ingredients(
    _ host: LoadedModel, rows: [[SourceRow]], weights: [Double], on backend: CPUBackend
  ) throws -> MergeIngredients {
    let anchor = backend.copied(host.transformer.parameters.values)
    var vectors: [Tensor] = []
    var fishers: [Tensor] = []
    func fisher(_ model: LoadedModel, _ index: Int) throws {
      guard !rows.isEmpty else { return }
      let estimate = try ModelFisher.estimate(
        model, rows: rows[index], examples: fisherExamples ?? 256,
        random: RandomStream(seed: seed ?? 0).forked("fisher of", index), on: backend)
      Say.note(
        "fisher of \(model.path): \(estimate.recipe.description); \(estimate.sequences) sequences, "
          + "\(estimate.scoredTokens) scored tokens")
      fishers.append(estimate.values)
    }
    try fisher(host, 0)
    for (index, path) in tuned.enumerated() {
      let model = try LoadedModel.load(path, on: backend)
      try MergeFit.require(model, fits: host)
      try fisher(model, index + 1)
      vectors.append(model.transformer.parameters.values)
    }
    return MergeIngredients(
      base: anchor, tuned: vectors, weights: weights, density: density ?? 0.2, seed: seed ?? 0, fishers: fishers)
  }

  private static func write(_ merge: any MergeMethod, _ alpha: Double, into values: Tensor) throws {
    try merge.merge(alpha: alpha, into: values)
    guard values.buffer.allSatisfy(\.isFinite) else {
      throw RunError(
        Runs.ExitCode.badData, "the merge at alpha \(Figures.setting(alpha)) has numbers that are not finite",
        hint: "use a smaller alpha, or look for the model that has them")
    }
  }
}

// MARK: What came of it

/// The strengths with their scores, and which was taken.
private struct Outcome {
  let reference: [Ledger.Measurement]
  let candidates: [MergeCandidate]
  let chosen: Int
  let decision: MergePick
  let files: [String]

  func json(_ command: MergeCommand, weights: [Double]) -> JSON {
    func improvement(_ candidate: MergeCandidate) -> JSON {
      JSON(candidate.meanImprovement(over: reference).flatMap { $0.isFinite ? $0 : nil })
    }
    var members: [JSON.Member] = [
      .init("schema", 1), .init("method", .string(command.method)), .init("base", .string(command.base)),
      .init("tuned", .array(command.tuned.map { .string($0) })),
    ]
    let options = MergeCatalog.method(named: command.method)?.card.options ?? []
    if options.contains(.weights) { members.append(.init("weights", .array(weights.map { .number($0) }))) }
    if options.contains(.density) { members.append(.init("density", .number(command.density ?? 0.2))) }
    if options.contains(.seed) { members.append(.init("seed", .string(String(command.seed ?? 0)))) }
    members += [
      .init("base_measurements", .array(reference.map(\.shortJSON))),
      .init(
        "candidates",
        .array(
          candidates.map {
            [
              "alpha": .number($0.alpha), "mean_improvement": improvement($0),
              "measurements": .array($0.measurements.map(\.shortJSON)),
            ]
          })),
      .init("pick", .string(command.pick)), .init("chosen", ["alpha": .number(candidates[chosen].alpha)]),
      .init("to", JSON(command.destination)), .init("files", .array(files.map { .string($0) })),
    ]
    return .object(members)
  }

  func text(_ command: MergeCommand) -> String {
    var lines: [String] = []
    if !reference.isEmpty {
      lines += [table, "↑ higher is better, ↓ lower is better; ± standard error over documents"]
    }
    if candidates.count > 1 { lines.append("chosen: " + reason(command.pick)) }
    if let destination = command.destination {
      lines.append(
        "\(command.method), alpha \(Figures.setting(candidates[chosen].alpha)): "
          + ([command.base] + command.tuned).joined(separator: " + ") + " → \(destination) (float32)"
          + (files.isEmpty ? "" : ": " + files.joined(separator: ", ")))
    }
    return lines.joined(separator: "\n")
  }

  /// Of every probe the first metric, and what the choice was made by; the JSON has all.
  private var table: String {
    var shown: [String] = []
    for one in reference {
      let isFirst = reference.first { $0.probe == one.probe }?.metric == one.metric
      if isFirst || decision == .metric(one.key) { shown.append(one.key) }
    }
    func cells(_ measurements: [Ledger.Measurement]) -> [String] {
      measurements.filter { shown.contains($0.key) }.map {
        Figures.fixed($0.value, 4) + ($0.stderr.map { " ± " + Figures.fixed($0, 4) } ?? "")
      }
    }
    let heads = reference.filter { shown.contains($0.key) }.map { "\($0.key) \($0.higherIsBetter ? "↑" : "↓")" }
    var rows = [["alpha"] + heads + ["mean improvement", ""], ["base"] + cells(reference) + ["–", ""]]
    for (index, candidate) in candidates.enumerated() {
      let isChosen = candidates.count > 1 && index == chosen
      rows.append(
        [Figures.setting(candidate.alpha)] + cells(candidate.measurements)
          + [candidate.meanImprovement(over: reference).map(Self.percent) ?? "–", isChosen ? "← chosen" : ""])
    }
    return Figures.columns(rows)
  }

  /// Why the chosen one was taken, and whether it is worth taking.
  private func reason(_ pick: String) -> String {
    let best = candidates[chosen]
    let name = "alpha \(Figures.setting(best.alpha)), "
    switch decision {
    case .bestMean:
      let gain = best.meanImprovement(over: reference) ?? 0
      return name + "the best mean improvement over the base (\(Self.percent(gain)))"
        + (gain > 0 ? "" : "; none of them is better than the base on average")
    case .metric(let key):
      let value = best.measurements.first { $0.key == key }?.value ?? .nan
      return name + "the best \(key) (\(Figures.fixed(value, 4)))"
    }
  }

  private static func percent(_ share: Double) -> String {
    (share > 0 ? "+" : "") + Figures.fixed(100 * share, 2) + " %"
  }
}
