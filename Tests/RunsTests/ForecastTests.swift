// The dry run's forecast: what methods add to steps and keep, and what several seeds multiply.
import Foundation
import Runs
import TestKit
import Testing

@Suite struct ForecastTests {
  @Test func methodsAddTheirPassesAndTheirState() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(
        in: folder, methods: "[]",
        compare: """
          { agem: [ { agem: { budget_tokens: 400, sample_tokens: 60 } } ], lwf: [ lwf ],
            replay: [ { replay: { ratio: 0.25, budget_tokens: 400 } } ], ogd: [ { ogd: { directions: 3 } } ],
            kfac: [ { ewc: { fisher: { structure: kronecker } } } ],
            cached: [ { lwf: { teacher: cached, top_k: 3 } } ] }
          """)
      let plan = try experiment.plan()
      let forecast = try DryRun(plan, assembly: Assembly(plan, reuse: false))
      let variants = Dictionary(uniqueKeysWithValues: forecast.variants.map { ($0.name, $0) })
      let naive = try #require(variants["naive"])
      func ratio(_ name: String, _ stage: Int) throws -> Double {
        try #require(variants[name]).stages[stage].seconds / naive.stages[stage].seconds
      }
      for stage in 0..<2 {
        let outline = naive.stages[stage]
        let tokens = Double(outline.stageTokens / outline.steps)
        #expect(abs(try ratio("agem", stage) - (1 + 60 / tokens)) < 1e-9)
        #expect(abs(try ratio("lwf", stage) - 4.0 / 3) < 1e-9)
        #expect(abs(try ratio("replay", stage) - 4.0 / 3) < 1e-3)
        let (kfac, ogd) = (try ratio("kfac", stage), try ratio("ogd", stage))
        #expect(kfac > 1.001 && ogd > 1.1, "\(kfac) \(ogd)")
      }
      // Two pasts of three directions, and the parameters before the step.
      let parameters = naive.memory.parts.first { $0.name == "parameters" }?.bytes ?? 0
      #expect(variants["ogd"]?.memory.parts.first { $0.name == "ogd" }?.bytes == 7 * parameters)
      // A teacher's parameters; what it has answered is remembered in memory and in no checkpoint.
      let (online, cached) = (try #require(variants["lwf"]), try #require(variants["cached"]))
      let kept = [online, cached].map { variant in variant.memory.parts.first { $0.name == "lwf" }?.bytes ?? 0 }
      #expect(kept[0] == parameters && kept[1] > parameters && (kept[1] - parameters) % 29 == 0)
      #expect(cached.disk.bytes == online.disk.bytes)
      var seeds = plan
      seeds.seeds = [1, 2, 3]
      let thrice = try DryRun(seeds, assembly: Assembly(seeds, reuse: false))
      #expect(thrice.seeds == 3)
      let once = forecast.diskBytes - forecast.largestCheckpoint
      #expect(thrice.diskBytes - thrice.largestCheckpoint == 3 * once)
    }
  }
}
