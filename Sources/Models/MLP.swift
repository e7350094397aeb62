// A small classifier on feature rows, for checks against published continual-learning tables.
import Layers
import StrictJSON
import TensorCore

/// Sizes of a multi-layer perceptron with ReLU.
public struct MLPConfiguration: Sendable, Equatable {
  public var inputs: Int
  public var hiddenSizes: [Int]
  /// Classes of each head; several heads answer several tasks.
  public var classes: [Int]
  public init(inputs: Int, hiddenSizes: [Int], classes: [Int]) {
    self.inputs = inputs
    self.hiddenSizes = hiddenSizes
    self.classes = classes
  }

  /// The sizes in a checkpoint's config.json; nil for another architecture.
  public init?(_ json: JSON) {
    guard json["model_type"]?.string == "mlp", let inputs = json["inputs"]?.int, 1...1 << 24 ~= inputs,
      let hidden = json["hidden_sizes"]?.array, let classes = json["classes"]?.array
    else { return nil }
    let sizes = (hidden.compactMap(\.int), classes.compactMap(\.int))
    guard sizes.0.count == hidden.count, sizes.1.count == classes.count,
      (sizes.0 + sizes.1).allSatisfy({ 1...1 << 24 ~= $0 })
    else { return nil }
    self.init(inputs: inputs, hiddenSizes: sizes.0, classes: sizes.1)
  }
  /// The same sizes as config.json.
  public var json: JSON {
    [
      "model_type": "mlp", "inputs": .integer(inputs), "hidden_sizes": .array(hiddenSizes.map { .integer($0) }),
      "classes": .array(classes.map { .integer($0) }),
    ]
  }
}

/// x → ReLU layers → one of several softmax heads.
///
/// - Shapes: features [N, I] → hidden [N, H] → logits [N, classes of the head]
public final class MLP: Network {
  public let configuration: MLPConfiguration
  public let parameters: ParameterStore
  private let layers: [Linear]
  private let heads: [Head]

  public enum Initialization: Sendable {
    /// Weights and biases uniform in ±1/√inputs.
    case uniform
    /// Weights uniform in ±√(6/(inputs + outputs)), biases 0. Source: Glorot & Bengio 2010
    case xavier
  }

  public static func declarations(_ c: MLPConfiguration, _ initialization: Initialization = .uniform)
    -> [ParameterDeclaration]
  {
    var all: [ParameterDeclaration] = []
    func linear(_ name: String, _ outputs: Int, _ inputs: Int) {
      let (weight, bias) =
        switch initialization {
        case .uniform: (1 / Double(inputs).squareRoot(), 1 / Double(inputs).squareRoot())
        case .xavier: ((6 / Double(inputs + outputs)).squareRoot(), 0)
        }
      all.append(ParameterDeclaration(name + ".weight", [outputs, inputs], .uniform(bound: weight)))
      all.append(ParameterDeclaration(name + ".bias", [outputs], .uniform(bound: bias)))
    }
    var width = c.inputs
    for (index, size) in c.hiddenSizes.enumerated() {
      linear("layers.\(index)", size, width)
      width = size
    }
    for (index, classes) in c.classes.enumerated() { linear("heads.\(index)", classes, width) }
    return all
  }

  public init(
    _ configuration: MLPConfiguration, initialization: Initialization = .uniform, random: RandomStream,
    on backend: any Backend
  ) {
    self.configuration = configuration
    let declarations = Self.declarations(configuration, initialization)
    parameters = ParameterStore(declarations, on: backend)
    parameters.initialize(declarations, from: random.forked("init"))
    let parts = ParameterLookup(store: parameters)
    layers = configuration.hiddenSizes.indices.map {
      Linear(parts["layers.\($0).weight"], bias: parts["layers.\($0).bias"])
    }
    heads = configuration.classes.indices.map {
      Head(Linear(parts["heads.\($0).weight"], bias: parts["heads.\($0).bias"]))
    }
  }

  public func head(_ index: Int) -> Head { heads[index] }

  public func forward(_ batch: Batch, recording: Bool, on backend: any Backend)
    -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    guard let features = batch.features else { preconditionFailure("a classifier reads feature rows") }
    let context = Context(batch, on: backend)
    var pullbacks: [Pullback] = []
    var x = features
    for layer in layers {
      let (y, linearBack) = layer(x, context)
      backend.relu(y, into: y)
      if recording {
        pullbacks.append { dy, sink in
          backend.reluGradient(dy, y: y, into: dy)
          return linearBack(dy, sink)
        }
      }
      x = y
    }
    return (x, recording ? NetworkPullback(batch, layers: pullbacks, input: { _, _ in }) : nil)
  }
}
