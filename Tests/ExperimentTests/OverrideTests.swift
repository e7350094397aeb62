// Overrides of the command line: they address by name and index, and are judged like the file.
// Mistakes are located in the argument itself.
import Experiment
import Foundation
import Testing

@Suite struct OverrideTests {
  @Test func everyWayOfAddressing() throws {
    try withWorkspace { directory in
      let overrides = [
        "training.learning_rate=1e-3", "stages.medical.training.num_epochs=5",
        "stages.1.training.max_tokens=1_000",
        "stages.legal.two.training.micro_batch_size=2", "methods.ewc.lambda=7",
        "methods.ewc.fisher.examples=9",
        "compare.plain.ewc.lambda=3", "compare.l2sp.l2sp.anchor=previous", "probes.general.limit=4",
        "seed=99",
        "compare.extra=[{replay: {ratio: 50%}}]", "evaluate.at=[base]", "base_data.0.weight=3",
        "time_limit=30s",
      ]
      let plan = try read(full, in: directory, overrides).plan
      #expect(plan.overrides == overrides)
      #expect(plan.training.learningRate == 1e-3 && plan.stages[0].training.learningRate == 1e-3)
      #expect(plan.stages[0].training.length == .epochs(5))
      #expect(plan.stages[1].training.length == .tokens(1000) && plan.stages[1].training.microBatchSize == 2)
      #expect(plan.methods[0].double("lambda") == 7 && plan.methods[0].int("fisher.examples") == 9)
      #expect(plan.methods[0].string("form") == "coupled")
      #expect(plan.compare[2].methods[0].double("lambda") == 3)
      #expect(plan.compare[1].methods[0].string("anchor") == "previous")
      #expect(plan.compare[3].name == "extra" && plan.compare[3].methods[0].double("ratio") == 0.5)
      #expect(plan.probes[0].limit == 4 && plan.seed == 99 && plan.evaluate.at == [.base])
      #expect(plan.baseData[0].weight == 3 && plan.timeLimitSeconds == 30)
    }
  }

  @Test func aLengthReplacesTheFilesLength() throws {
    try withWorkspace { directory in
      let plan = try read(minimal, in: directory, ["training.max_steps=4"]).plan
      #expect(plan.training.length == .steps(4))
      let found = issues(minimal, in: directory, ["training.max_steps=4", "training.max_tokens=4"])
      #expect(found.issues.first?.message.contains("exclude one another") == true)
    }
  }

  @Test func pathsAreRelativeToTheWorkingDirectory() throws {
    try withWorkspace { directory in
      let overrides = ["base_model=base.h5", "output_dir=out"]
      let plan = try read(minimal, in: directory, overrides, workingDirectory: directory + "/models").plan
      #expect(plan.baseModel == .checkpoint(directory + "/models/base.h5"))
      #expect(plan.outputDirectory == directory + "/models/out")
    }
  }

  struct Wrong: Sendable, CustomStringConvertible {
    let argument: String
    let column: Int
    let message: String
    var hint: String?
    var description: String { argument }
  }
  static let wrong: [Wrong] = [
    Wrong(
      argument: "training.leraning_rate=1", column: 10, message: "unknown key 'leraning_rate' in training",
      hint: "did you mean 'learning_rate'?"),
    Wrong(
      argument: "trainin.learning_rate=1", column: 1, message: "unknown key 'trainin'",
      hint: "did you mean 'training'?"),
    Wrong(
      argument: "stages.medcal.training.num_epochs=2", column: 8, message: "stages has no entry 'medcal'",
      hint: "did you mean 'medical'?"),
    Wrong(argument: "stages.7.training.num_epochs=2", column: 8, message: "stages has no entry '7'"),
    Wrong(
      argument: "methods.ewx.lambda=2", column: 9, message: "methods has no entry 'ewx'",
      hint: "did you mean 'ewc'?"),
    Wrong(
      argument: "methods.ewc.lamda=2", column: 13, message: "unknown key 'lamda' in ewc",
      hint: "did you mean 'lambda'?"),
    Wrong(argument: "methods.ewc.lambda=-2", column: 20, message: "-2 is out of range"),
    Wrong(
      argument: "training.learning_rate=fast", column: 24, message: "expected a number above 0, found 'fast'"),
    Wrong(argument: "training.learning_rate", column: 1, message: "is no override", hint: "key=value"),
    Wrong(argument: "=1", column: 1, message: "is no override"),
    Wrong(argument: "training.learning_rate=", column: 1, message: "is given no value"),
    Wrong(argument: "training..x=1", column: 1, message: "is no key"),
    Wrong(argument: "name.x=1", column: 6, message: "name is 'clinic-court' and has no 'x'"),
    Wrong(argument: "seed=[1", column: 8, message: "not valid YAML"),
    Wrong(argument: "seed=&a 1", column: 6, message: "anchors"),
    Wrong(argument: "base_model=nowhere.h5", column: 12, message: "no such file 'nowhere.h5'"),
  ]

  @Test(arguments: wrong) func isLocated(_ wrong: Wrong) throws {
    try withWorkspace { directory in
      let found = issues(full, in: directory, ["seed=1", wrong.argument])
      let issue = found.issues.first { $0.path == "command line" }
      let all = found.issues.map(\.description).joined(separator: "\n")
      #expect(issue?.message.contains(wrong.message) == true, "\(all)")
      #expect(issue?.line == 2 && issue?.column == wrong.column, "\(all)")
      #expect(issue?.sourceLine == wrong.argument)
      if let hint = wrong.hint { #expect(issue?.hint?.contains(hint) == true, "\(all)") }
    }
  }
}
