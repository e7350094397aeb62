// What a backend must be able to do, in five families. The reference backend is the specification of every line.
// All tensors are Float32 [rows, columns]; N counts tokens of a flattened batch, C channels, H heads, D head width,
// V vocabulary. Tensors may be strided except in the vector family. "into" tensors are overwritten unless `accumulate` says otherwise.

/// A quadratic pull ½ λ Σ F (θ − θ*)², as data, so that an optimizer can apply it in its own pass over memory.
public struct QuadraticPull: Sendable {
  public enum Form: String, Sendable {
    /// The gradient λF(θ − θ*) joins the task gradient and goes through the optimizer's moments.
    case coupled
    /// After the optimizer's step: θ ← (d·θ + ηλFθ*) / (d + ηλF), d the optimizer's own metric.
    case proximal
  }
  public let strength: Float
  /// F, or nil for ones. Same shape as the parameters.
  public let curvature: Tensor?
  public let anchor: Tensor
  public let form: Form
  /// What a reported penalty has beside the quadratic, whatever θ is: the part of merged pulls that moves nothing.
  ///
  /// Optimizers neither use it nor add it to the penalty they return.
  public let constant: Double
  /// Where F may be above 0, if that is known: nothing else of curvature and anchor need be read.
  public let reach: [Range<Int>]?
  public init(
    strength: Float, curvature: Tensor?, anchor: Tensor, form: Form, constant: Double = 0, reach: [Range<Int>]? = nil
  ) {
    self.strength = strength
    self.curvature = curvature
    self.anchor = anchor
    self.form = form
    self.constant = constant
    self.reach = reach
  }
  /// Whether anything of a range of the parameters may be pulled.
  public func reaches(_ range: Range<Int>) -> Bool { reach?.contains { $0.overlaps(range) } ?? true }
  /// The same pull on a contiguous range of the parameters, without the constant.
  public func slice(_ range: Range<Int>) -> QuadraticPull {
    QuadraticPull(strength: strength, curvature: curvature?.slice(range), anchor: anchor.slice(range), form: form)
  }
}

/// A pull on one weight of which the force where a step begins is known, and what its slope stays below.
public struct BoundedPull: Sendable {
  /// λ, of force and bounds alike.
  public let strength: Float
  /// The gradient of the penalty ÷ λ at the parameters that the step finds. [R, C]
  public let force: Tensor
  /// Their sum is a diagonal matrix nowhere below the penalty's second derivative ÷ λ.
  public let bounds: [RankOneBound]
  public init(strength: Float, force: Tensor, bounds: [RankOneBound]) {
    self.strength = strength
    self.force = force
    self.bounds = bounds
  }
}

/// The matrix uvᵀ, of numbers that are not negative.
public struct RankOneBound: Sendable {
  /// u [1, R]
  public let rows: Tensor
  /// v [1, C]
  public let columns: Tensor
  public init(rows: Tensor, columns: Tensor) {
    self.rows = rows
    self.columns = columns
  }
}

/// What rows of logits should come near, beside their targets or instead of them.
public struct SoftRows: Sendable, Equatable {
  /// Weight of −log p(target), one a row.
  public var hard: [Float] = []
  /// Weight of the soft loss, one a row; 0 for rows without.
  public var soft: [Float] = []
  /// T of the divergence; 0 for squared errors of logits.
  public var temperatures: [Float] = []
  /// Where each row's classes begin, and where the last one's end.
  public var starts: [Int] = [0]
  public var classes: [Int32] = []
  /// log q at the row's temperature, or logits.
  public var values: [Float] = []
  public init() {}

  public mutating func append(
    hard: Float, soft: Float, temperature: Float, classes: some Collection<Int32>, values: some Collection<Float>
  ) {
    self.hard.append(hard)
    self.soft.append(soft)
    temperatures.append(temperature)
    self.classes += classes
    self.values += values
    starts.append(self.classes.count)
  }
  public var count: Int { hard.count }
  /// Some rows, in the given order.
  public func rows(_ indices: [Int32]) -> SoftRows {
    var some = SoftRows()
    for index in indices {
      let (row, range) = (Int(index), starts[Int(index)]..<starts[Int(index) + 1])
      some.append(
        hard: hard[row], soft: soft[row], temperature: temperatures[row], classes: classes[range],
        values: values[range])
    }
    return some
  }
}

/// The scalars of one AdamW step.
public struct AdamWStep: Sendable {
  public var learningRate: Float
  public var beta1: Float
  public var beta2: Float
  public var epsilon: Float
  /// Decoupled: θ ← θ − η·decay·θ before the Adam update.
  public var weightDecay: Float
  /// Steps taken, this one included; bias corrections are 1 − βᵗ.
  public var step: Int
  /// Factor on the gradient (clipping); never on a pull.
  public var gradientScale: Float
  public init(
    learningRate: Float, beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float, step: Int,
    gradientScale: Float
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.step = step
    self.gradientScale = gradientScale
  }
}

/// How queries, keys and values are laid out in columns.
public struct AttentionShape: Sendable, Equatable {
  public let heads: Int
  /// Heads of keys and values; query head h reads key head h / (heads / keyHeads).
  public let keyHeads: Int
  public let headDimension: Int
  /// Factor on the scores, usually 1/√D.
  public let scale: Float
  public init(heads: Int, keyHeads: Int, headDimension: Int, scale: Float) {
    precondition(heads % keyHeads == 0, "\(heads) heads cannot share \(keyHeads) key heads")
    self.heads = heads
    self.keyHeads = keyHeads
    self.headDimension = headDimension
    self.scale = scale
  }
}

public protocol Backend: AnyObject {
  var pool: BufferPool { get }
  /// Numbers in products from now on; a backend without the wanted ones stays at fp32.
  var precision: Precision { get set }

  // MARK: Matrix

  /// C ← op(A)·op(B), or C += …; op transposes where asked.
  ///
  /// - Shapes: op(A) [M, K], op(B) [K, N], C [M, N]; all may be strided
  func multiply(
    _ a: Tensor, transposed transposeA: Bool, _ b: Tensor, transposed transposeB: Bool, into c: Tensor,
    accumulate: Bool)
  /// For every M a U and a d ≥ 0 such that UUᵀ + diag(d) is near M and, unless UUᵀ is larger there, has its diagonal.
  ///
  /// Iterated principal axes: U spans the leading eigenvectors of M − diag(d), d is what UUᵀ lacks of M's diagonal; both
  /// advance together through `FactorAnalysis.rounds` rounds of subspace iteration from `FactorAnalysis.start`.
  /// - Shapes: matrices [n, n], symmetric and positive semidefinite; loadings Uᵀ [r, n], r ≤ n; uniquenesses d [1, n]
  /// - Cost: 2n²r + 8nr² operations a round; 12nr bytes a thread
  /// - Source: Harman 1976, Modern Factor Analysis; subspace iteration: Halko et al. 2011, arXiv:0909.4061
  func factorAnalysis(of matrices: [Tensor], loadings: [Tensor], uniquenesses: [Tensor])
  /// Y[r] += bias for every row.  bias [1, C], y [N, C]
  func addBias(_ bias: Tensor, to y: Tensor)
  /// sums ← Σ_r X[r].  x [N, C] → [1, C]
  func columnSums(_ x: Tensor, into sums: Tensor, accumulate: Bool)
  /// F += Σ_s (A_sᵀ B_s)², element by element, one product per segment: exact per-sequence squared gradients.
  ///
  /// - Shapes: a [N, P], b [N, Q], F [P, Q]; segments cover N rows
  func accumulateSquaredProducts(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor)
  /// F += (A²)ᵀ(B²): squared gradients of single positions.  a [N, P], b [N, Q], F [P, Q]
  func accumulateProductsOfSquares(_ a: Tensor, _ b: Tensor, into f: Tensor)
  /// F += Σ_s (Σ_{r ∈ s} X[r])².  x [N, C], F [1, C]
  func accumulateSquaredColumnSums(_ x: Tensor, segments: Segments, into f: Tensor)

  /// F += Σ_s |A_sᵀ B_s|, element by element: magnitudes of per-sequence gradients. Shapes as above.
  func accumulateProductMagnitudes(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor)
  /// F += Σ_s |Σ_{r ∈ s} X[r]|.  x [N, C], F [1, C]
  func accumulateColumnSumMagnitudes(_ x: Tensor, segments: Segments, into f: Tensor)

  // MARK: Rowwise

  /// y = (x − mean) · inverse · gain + shift per row; mean is 0 unless centred (root-mean-square form).
  ///
  /// inverse = 1/√(mean((x − mean)²) + ε)
  /// - Shapes: x, y [N, C]; gain, shift [1, C]; statistics [N, 2] receives (mean, inverse)
  func normalize(
    _ x: Tensor, gain: Tensor, shift: Tensor?, epsilon: Float, centred: Bool, into y: Tensor, statistics: Tensor)
  /// dx of `normalize`, added to dx where `accumulate`.
  func normalizeGradient(
    _ dy: Tensor, x: Tensor, gain: Tensor, statistics: Tensor, centred: Bool, into dx: Tensor, accumulate: Bool)
  /// out ← dy ⊙ (x − mean)·inverse: what the gain's gradient sums over rows.  all [N, C]
  func normalizedProduct(_ dy: Tensor, x: Tensor, statistics: Tensor, into out: Tensor)
  /// y = gate·σ(gate)·up.  all [N, F]; y may be gate or up
  func gatedSiLU(gate: Tensor, up: Tensor, into y: Tensor)
  /// Gradients of `gatedSiLU`, and its y once more; dGate and dUp may be the buffers of gate and up, y that of dy.
  func gatedSiLUGradient(_ dy: Tensor, gate: Tensor, up: Tensor, dGate: Tensor, dUp: Tensor, y: Tensor)
  /// y = ½x(1 + tanh(√(2/π)(x + 0.044715x³))), GPT-2's form.
  func gelu(_ x: Tensor, into y: Tensor)
  /// dx = dy·gelu′(x); dx may be dy.
  func geluGradient(_ dy: Tensor, x: Tensor, into dx: Tensor)
  /// y = max(0, x).
  func relu(_ x: Tensor, into y: Tensor)
  /// dx = dy where y > 0, else 0; dx may be dy.
  func reluGradient(_ dy: Tensor, y: Tensor, into dx: Tensor)
  /// Rotates each head by its position, in place: (a, b) ← (a·cos − b·sin, b·cos + a·sin) for a = element i,
  /// b = element i + D/2; `inverse` rotates back (the gradient).
  ///
  /// - Shapes: x [N, H·D]; cosines, sines [positions, D/2]
  func rotate(
    _ x: Tensor, headDimension: Int, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool)

  // MARK: Attention

  /// Causal attention inside each segment: out = softmax(scale·QKᵀ + mask)·V.
  ///
  /// Keys and values of a segment's prefix stand before its own, seen by every query of it.
  /// - Shapes: q, out [N, H·D]; k, v [N, keyHeads·D]; logSumExp [N, H] of the scaled scores; may be strided
  func attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, shape: AttentionShape, into out: Tensor,
    logSumExp: Tensor)
  /// Gradients of `attention`; dq, dk, dv are overwritten.
  ///
  /// - Precondition: no segment has a prefix
  func attentionGradient(
    _ dOut: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logSumExp: Tensor, segments: Segments,
    shape: AttentionShape, dq: Tensor, dk: Tensor, dv: Tensor)

  /// Attention of one query a text over the keys and values stored for it: out = softmax(scale·qKᵀ)·V.
  ///
  /// - Shapes: q, out [S, H·D]; keys, values [S·capacity, keyHeads·D], of which the first `length` rows of each
  ///   text count; may be strided
  func cachedAttention(
    q: Tensor, keys: Tensor, values: Tensor, length: Int, shape: AttentionShape, into out: Tensor)

  // MARK: Tokens

  /// y[r] = table[tokens[r]].  table [V, C], y [N, C]
  func gather(_ table: Tensor, tokens: [Int32], into y: Tensor)
  /// table[tokens[r]] += dy[r].
  func scatterAdd(_ dy: Tensor, tokens: [Int32], into table: Tensor)
  /// Losses per row, and the gradient of their scaled sum in place of the logits.
  ///
  /// loss = logΣexp(logits) − logits[target] in nats; logits ← scale·(softmax − onehot(target))
  /// - Shapes: logits [n, V], losses [1, n]; a target below 0 gives loss 0 and gradient 0
  func crossEntropy(_ logits: Tensor, targets: [Int32], scale: Float, losses: Tensor)
  /// `crossEntropy` for labels drawn from the rows themselves, as `sampleLabels` draws them; where a draw meets the border
  /// of two labels, rounding decides.
  ///
  /// - Returns: the labels
  /// - Cost: that of `crossEntropy`; `sampleLabels` before it would read the logits and take their exponentials once more
  func sampledCrossEntropy(_ logits: Tensor, uniforms: [Double], scale: Float, losses: Tensor) -> [Int32]
  /// losses[r] = −log softmax(logits[r])[target], logits untouched.
  func negativeLogLikelihood(_ logits: Tensor, targets: [Int32], losses: Tensor)
  /// Losses of rows with soft targets beside or instead of their own, and the gradient of the weighted sum in place
  /// of the logits: scale·(hard·∂(−log p(target)) + soft·∂D).
  ///
  /// D is T²·KL(q ‖ p) at temperature T > 0, with the classes that q does not list as one outcome; at T = 0 it is
  /// Σ(z − v)²/V over the listed classes. losses and softLosses [1, n] come without weights; a target below 0 gives 0.
  /// - Cost: a pass over the row more than `crossEntropy`
  func blend(
    _ logits: Tensor, targets: [Int32], soft: SoftRows, scale: Float, losses: Tensor, softLosses: Tensor)
  /// The `count` likeliest classes of every row by falling logit (equals by rising class), with log softmax(z/T), or
  /// the logits themselves at T = 0; all classes in their own order where `count` reaches V.
  ///
  /// - Shapes: logits [n, V] → n·min(count, V) classes and values
  func likeliest(_ logits: Tensor, count: Int, temperature: Float) -> (classes: [Int32], values: [Float])
  /// One label per row drawn from softmax(logits[r]) by inverting its cumulative sum at uniforms[r] ∈ [0, 1).
  func sampleLabels(_ logits: Tensor, uniforms: [Double]) -> [Int32]
  /// probabilities[r] = softmax(logits[r]).
  func softmax(_ logits: Tensor, into probabilities: Tensor)

  /// y[:, j] ← x[:, columns[j]], and those columns of x become 0.  x [N, V], y [N, columns.count]
  func takeColumns(_ x: Tensor, columns: [Int32], into y: Tensor)

  // MARK: Vector (contiguous tensors of equal count)

  func fill(_ x: Tensor, _ value: Float)
  /// y ← x; strided windows allowed.
  func copy(_ x: Tensor, into y: Tensor)
  /// y += scale·x; strided windows allowed.
  func add(_ x: Tensor, scaled scale: Float, into y: Tensor)
  /// y ← a − b; strided windows allowed.
  func subtract(_ b: Tensor, from a: Tensor, into y: Tensor)
  /// x ← scale·x.
  func scale(_ x: Tensor, by factor: Float)
  /// y[i, j] ← factors[i]·x[i, j].  x, y [N, C]; factors [1, N]; strided windows allowed
  func scaleRows(_ x: Tensor, by factors: Tensor, into y: Tensor)
  /// y[i, j] ← factors[j]·x[i, j].  x, y [N, C]; factors [1, C]; strided windows allowed
  func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor)
  /// y += scale·x².
  func addSquares(_ x: Tensor, scaled scale: Float, into y: Tensor)
  /// y += scale·|x|.
  func addMagnitudes(_ x: Tensor, scaled scale: Float, into y: Tensor)
  /// path −= gradient·(values − previous), then previous ← values: what each parameter did to the loss.
  func addPath(gradient: Tensor, values: Tensor, previous: Tensor, into path: Tensor)
  /// y += scale·a·b.
  func addProduct(_ a: Tensor, _ b: Tensor, scaled scale: Float, into y: Tensor)
  /// q ← numerator/denominator where denominator > 0, fallback elsewhere.
  func divide(_ numerator: Tensor, by denominator: Tensor, otherwise fallback: Tensor, into q: Tensor)
  /// Σ x·y in double. Synchronises.
  func dot(_ x: Tensor, _ y: Tensor) -> Double
  /// Σ F·(x − anchor)² in double, F = 1 and anchor = 0 where nil. Synchronises.
  func quadratic(_ x: Tensor, anchor: Tensor?, curvature: Tensor?) -> Double
  /// One AdamW step with every pull, in one pass; returns ½ Σ λF(θ − θ*)² over all pulls at the θ it found.
  ///
  /// g ← scale·g + Σ_coupled λF(θ − θ*);  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²
  /// d = √(v/(1−β₂ᵗ)) + ε;  θ ← θ(1 − ηw) − η·m/(1−β₁ᵗ)/d
  /// θ ← (d·θ + ηΣ_proximal λFθ*) / (d + ηΣ_proximal λF)
  /// for each bounded pull: θ ← θ − ηλ(force + b(θ − θ₀))/(d + ηλb), b = Σ_k u_k v_kᵀ, θ₀ the θ that was found: the minimiser
  /// of the step's own quadratic model plus one that is nowhere below the pull's penalty and touches it at θ₀. It cannot
  /// overshoot for any λ, and rests where gradient + λ·force = 0.
  func adamW(
    _ parameters: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, pulls: [QuadraticPull],
    bounded: [BoundedPull], step: AdamWStep
  ) -> Double
  /// One SGD step with momentum and every pull (metric d = 1); returns the penalty as `adamW` does.
  ///
  /// g ← scale·g + Σ_coupled λF(θ − θ*);  b ← μb + g;  θ ← θ(1 − ηw) − ηb;  then the proximal and the bounded pulls
  func sgd(
    _ parameters: Tensor, gradient: Tensor, momentumBuffer: Tensor?, momentum: Float, learningRate: Float,
    weightDecay: Float, gradientScale: Float, pulls: [QuadraticPull], bounded: [BoundedPull]
  ) -> Double
}

extension Backend {
  public func adamW(
    _ parameters: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, pulls: [QuadraticPull],
    step: AdamWStep
  ) -> Double {
    adamW(
      parameters, gradient: gradient, firstMoment: firstMoment, secondMoment: secondMoment, pulls: pulls, bounded: [],
      step: step)
  }
  public func sgd(
    _ parameters: Tensor, gradient: Tensor, momentumBuffer: Tensor?, momentum: Float, learningRate: Float,
    weightDecay: Float, gradientScale: Float, pulls: [QuadraticPull]
  ) -> Double {
    sgd(
      parameters, gradient: gradient, momentumBuffer: momentumBuffer, momentum: momentum, learningRate: learningRate,
      weightDecay: weightDecay, gradientScale: gradientScale, pulls: pulls, bounded: [])
  }
  /// A tensor with undefined elements.
  public func empty(_ rows: Int, _ columns: Int) -> Tensor {
    Tensor(storage: Storage(rows * columns, from: pool), offset: 0, rows: rows, columns: columns, stride: columns)
  }
  public func zeros(_ rows: Int, _ columns: Int) -> Tensor {
    let tensor = empty(rows, columns)
    fill(tensor, 0)
    return tensor
  }
  public func tensor(_ values: [Float], _ rows: Int, _ columns: Int) -> Tensor {
    let tensor = empty(rows, columns)
    tensor.assign(values)
    return tensor
  }
  /// A contiguous copy.
  public func copied(_ x: Tensor) -> Tensor {
    let y = empty(x.rows, x.columns)
    copy(x, into: y)
    return y
  }
}
