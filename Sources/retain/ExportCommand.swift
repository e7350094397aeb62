// `retain export`: a stage of a run as a Hugging Face folder, with everything transformers looks for.
import Archive
import ArgumentParser
import Experiment
import Foundation
import Models
import Runs
import StrictJSON
import TensorCPU

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a Hugging Face folder that transformers loads with the same logits.",
    discussion: """
      RUN is a run directory; a checkpoint (.h5) or a model folder is taken as it is. A destination that ends in .h5 \
      becomes a model file: weights and tokenizer in one HDF5 file, as Checkpoints/base-en.h5.
      """)

  enum DType: String, ExpressibleByArgument, CaseIterable { case float32, bfloat16 }

  @Argument(help: ArgumentHelp("Run directory, checkpoint or model folder.", valueName: "run"))
  var place: String
  @Option(help: "Stage whose end is exported, or base; default: the last stage that is finished.")
  var stage: String?
  @Option(name: .customLong("to"), help: "Folder to write, or a file that ends in .h5.")
  var destination: String
  @Option(help: "Type of the numbers.")
  var dtype = DType.float32
  @Flag(help: "Write into a folder that is not empty.")
  var force = false
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let source = try locate()
    let target = ModelDestination(path: destination)
    if !force { try target.requireFree() }
    let model = try LoadedModel.load(source, on: CPUBackend(threads: 1))
    let files = try target.write(model, type: dtype == .bfloat16 ? .bfloat16 : .float32)
    guard json else {
      Terminal.out(
        "\(source) → \(destination) (\(dtype.rawValue))" + (files.isEmpty ? "" : ": " + files.joined(separator: ", ")))
      return
    }
    var members: [JSON.Member] = [
      .init("schema", 1), .init("source", .string(source)), .init("to", .string(destination)),
      .init("dtype", .string(dtype.rawValue)),
    ]
    if !target.isFile { members.append(.init("files", .array(files.map { .string($0) }))) }
    Say.json(.object(members))
  }

  /// The model file that the arguments mean.
  private func locate() throws -> String {
    let checkpoints = RunDirectory(place).checkpoints
    guard FileManager.default.fileExists(atPath: checkpoints) else {
      guard FileManager.default.fileExists(atPath: place) else {
        throw RunError(Runs.ExitCode.missingInput, "\(place): no such run, checkpoint or model folder")
      }
      if stage != nil {
        throw usage("--stage needs a run directory", hint: "\(place) has no checkpoints folder")
      }
      return place
    }
    let plan = try? ExperimentPlan.load(RunDirectory(place).plan, checkingFiles: false)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpoints)) ?? []
    let finished = names.filter { $0.hasSuffix("-end.h5") }.map { String($0.dropLast("-end.h5".count)) }
    let known = plan.map { $0.stages.map(\.name).filter(finished.contains) } ?? finished.sorted()
    let choices = (["base"] + known).joined(separator: ", ")
    guard let wanted = stage ?? known.last else {
      if let seeds = plan?.seeds, seeds.count > 1 {
        throw RunError(
          Runs.ExitCode.usage, "\(place) is a run of \(seeds.count) seeds, each with a model of its own",
          hint: "name one: \(place)/seed-\(seeds[0])")
      }
      throw RunError(
        Runs.ExitCode.missingInput, "\(place): no stage is finished",
        hint: "--stage base is there from the start")
    }
    if known.contains(wanted) { return "\(checkpoints)/\(wanted)-end.h5" }
    guard wanted == "base" else {
      throw RunError(
        Runs.ExitCode.missingInput, "\(place): there is no finished stage \(wanted)",
        hint: "stages: \(choices)")
    }
    if names.contains("base.h5") { return checkpoints + "/base.h5" }
    switch plan?.baseModel {
    case .folder(let path), .checkpoint(let path): return path
    case .new, nil:
      throw RunError(Runs.ExitCode.missingInput, "\(checkpoints)/base.h5 is gone", hint: "stages: \(choices)")
    }
  }
}
