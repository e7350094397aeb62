// Benchmarks of the parts of a step: products, attention, head, optimizer.
import Layers
import Runs
import StrictJSON
import TensorCPU
import TensorCore
import Training

extension Bench {
  /// Every product of a layer and the head's: forward, gradient by the input, gradient by the weight.
  func products() -> BenchResult {
    var details: [JSON] = []
    var (seconds, operations) = (0.0, 0.0)
    let head = ("head", configuration.hiddenSize, configuration.vocabularySize, 1)
    let layers = self.operations.products.map { ($0.name, $0.inputs, $0.outputs, configuration.layers) }
    for (name, inputs, outputs, times) in layers + [head] {
      let (x, weight) = (uniform(tokens, inputs), uniform(outputs, inputs))
      let (y, gradient) = (backend.empty(tokens, outputs), backend.empty(outputs, inputs))
      let each = [
        median {
          backend.multiply(x, transposed: false, weight, transposed: true, into: y, accumulate: false)
        },
        median {
          backend.multiply(y, transposed: false, weight, transposed: false, into: x, accumulate: false)
        },
        median {
          backend.multiply(y, transposed: true, x, transposed: false, into: gradient, accumulate: false)
        },
      ]
      let work = 2 * Double(tokens) * Double(inputs) * Double(outputs)
      details.append([
        "product": .string(name), "m": .integer(tokens), "k": .integer(inputs), "n": .integer(outputs),
        "times": .integer(times), "gflops": .array(each.map { .number((work / $0 / 1e7).rounded() / 100) }),
      ])
      seconds += each.reduce(0, +) * Double(times)
      operations += 3 * work * Double(times)
    }
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: operations, details: [.init("products", .array(details))])
  }

  /// Causal attention of all layers, forward and backward.
  func attention() -> BenchResult {
    let shape = AttentionShape(
      heads: configuration.heads, keyHeads: configuration.keyHeads,
      headDimension: configuration.headDimension,
      scale: 1 / Float(configuration.headDimension).squareRoot())
    let segments = Segments(lengths: lengths)
    let (width, keyWidth) = (shape.heads * shape.headDimension, shape.keyHeads * shape.headDimension)
    let (q, k, v) = (uniform(tokens, width), uniform(tokens, keyWidth), uniform(tokens, keyWidth))
    let (out, sums, dOut) = (
      backend.empty(tokens, width), backend.empty(tokens, shape.heads), uniform(tokens, width)
    )
    let (dq, dk, dv) = (
      backend.empty(tokens, width), backend.empty(tokens, keyWidth), backend.empty(tokens, keyWidth)
    )
    let forward = median {
      backend.attention(q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: sums)
    }
    let backward = median {
      backend.attentionGradient(
        dOut, q: q, k: k, v: v, out: out, logSumExp: sums, segments: segments, shape: shape, dq: dq, dk: dk,
        dv: dv)
    }
    let layers = Double(configuration.layers)
    return BenchResult(
      seconds: (forward + backward) * layers, tokens: tokens,
      operations: operations.attention(lengths: lengths),
      details: [
        .init("documents", .integer(documents)),
        .init("sum_of_squared_lengths", .integer(lengths.reduce(0) { $0 + $1 * $1 })),
        .init("forward_seconds", .number(forward * layers)),
        .init("backward_seconds", .number(backward * layers)),
      ])
  }

  /// Logits, loss and both gradients of the head, block by block.
  func head() -> BenchResult {
    let declarations = [
      ParameterDeclaration("head", [configuration.vocabularySize, configuration.hiddenSize], .zeros)
    ]
    let store = ParameterStore(declarations, on: backend)
    backend.copy(uniform(1, store.count, scale: 0.02), into: store.values)
    let head = Head(Linear(store.parameters[0]))
    let hidden = uniform(tokens, configuration.hiddenSize)
    let batch = randomBatch()
    let sink = Accumulator(store, on: backend)
    var loss = 0.0
    let seconds = median {
      sink.reset()
      var seed = CrossEntropySeed(scale: 1 / Float(tokens))
      loss = head.backward(hidden, batch: batch, seed: &seed, sink: sink, on: backend).loss
    }
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: 6 * Double(operations.head) * Double(tokens),
      loss: loss / Double(tokens))
  }

  /// AdamW over all parameters, without and with one past, against the bandwidth of y += x.
  func optimizer() -> BenchResult {
    let count = parameters
    let (values, gradient) = (uniform(1, count), uniform(1, count, scale: 1e-3))
    let (first, second) = (backend.zeros(1, count), backend.zeros(1, count))
    let step = AdamWStep(
      learningRate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, step: 10,
      gradientScale: 1)
    let pull = QuadraticPull(
      strength: 1, curvature: uniform(1, count), anchor: backend.copied(values), form: .proximal)
    func seconds(_ pulls: [QuadraticPull]) -> Double {
      median {
        _ = backend.adamW(
          values, gradient: gradient, firstMoment: first, secondMoment: second, pulls: pulls, step: step)
      }
    }
    let (plain, pulled) = (seconds([]), seconds([pull]))
    let stream = streamBandwidth()
    let (rate, pulledRate) = (28 * Double(count) / plain / 1e9, 36 * Double(count) / pulled / 1e9)
    return BenchResult(
      seconds: plain, tokens: nil, operations: nil,
      details: [
        .init("gb_per_second", .number(rate)), .init("stream_gb_per_second", .number(stream)),
        .init("share_of_stream", .number(rate / stream)), .init("ewc_seconds_per_step", .number(pulled)),
        .init("ewc_gb_per_second", .number(pulledRate)),
        .init("ewc_share_of_stream", .number(pulledRate / stream)),
      ])
  }

  /// Bytes a second of y += x on vectors far larger than any cache, in 10⁹; the best step counts.
  private func streamBandwidth() -> Double {
    let count = 1 << 26
    let (x, y) = (backend.zeros(1, count), backend.zeros(1, count))
    var best = 0.0
    for _ in 0..<max(3, steps) {
      let begun = Machine.seconds
      backend.add(x, scaled: 1, into: y)
      best = max(best, 12 * Double(count) / (Machine.seconds - begun) / 1e9)
    }
    return best
  }
}
