// Gradients of whole models against difference quotients of their own loss, on the reference backend.
import Layers
import Models
import TensorCore
import TestKit
import Testing

@Suite struct CentralDifferenceTests {
  /// For every parameter along two random directions: (L(θ + εd) − L(θ − εd)) / 2ε = g·d.
  @Test(arguments: FixtureModel.names) func everyParameterOfEveryModel(name: String) throws {
    let backend = ReferenceBackend()
    let fixture = try FixtureModel(name, on: backend)
    let model = fixture.model.transformer
    let accumulator = Accumulator(model.parameters, on: backend)
    _ = model.backward(fixture.batch, seed: CrossEntropySeed(scale: 1), sink: accumulator, on: backend)
    func loss() -> Double {
      model.negativeLogLikelihoods(fixture.batch, on: backend).reduce(0) { $0 + Double($1) }
    }
    for parameter in model.parameters.parameters {
      let gradient = parameter.view(of: accumulator.gradient).toArray().map(Double.init)
      let original = parameter.value.toArray()
      let norm = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
      for number in 0..<2 {
        var random = RandomStream(seed: 7).forked(parameter.name, number)
        let direction = original.map { _ in random.normal() / Double(original.count).squareRoot() }
        // Losses are rounded to about 1e-6: a step of a hundredth keeps that below a thousandth of the slope.
        let epsilon = 0.01
        parameter.value.assign(zip(original, direction).map { Float(Double($0) + epsilon * $1) })
        let above = loss()
        parameter.value.assign(zip(original, direction).map { Float(Double($0) - epsilon * $1) })
        let below = loss()
        parameter.value.assign(original)
        let found = (above - below) / (2 * epsilon)
        let wanted = zip(gradient, direction).reduce(0) { $0 + $1.0 * $1.1 }
        #expect(abs(found - wanted) < 1e-2 * abs(wanted) + 5e-3 * norm, "\(parameter.name): \(found), \(wanted)")
      }
    }
  }
}
