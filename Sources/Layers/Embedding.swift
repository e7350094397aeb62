// From token ids to vectors, with learned positions where the architecture has them.
import TensorCore

/// y[r] = table[token r] (+ positions[place r]).
///
/// - Shapes: tokens [N] → y [N, C]
public struct Embedding {
  public let table: Parameter
  public let positions: Parameter?
  public init(table: Parameter, positions: Parameter? = nil) {
    self.table = table.used()
    self.positions = positions?.used()
    for parameter in [table, positions].compactMap({ $0 }) { (parameter.isAtAnEnd, parameter.isTable) = (true, true) }
    table.isTokenTable = true
  }

  public func callAsFunction(_ batch: Batch, _ context: Context) -> (Tensor, (Tensor, any GradientSink) -> Void) {
    let backend = context.backend
    let y = backend.empty(batch.tokens.count, table.value.columns)
    backend.gather(table.value, tokens: batch.tokens, into: y)
    if let positions {
      let places = backend.empty(y.rows, y.columns)
      backend.gather(positions.value, tokens: batch.positions, into: places)
      backend.add(places, scaled: 1, into: y)
    }
    return (
      y,
      { dy, sink in
        if let positions, positions.isTrainable {
          sink.rows(positions, tokens: batch.positions, outputGradient: dy, segments: batch.segments)
        }
        if table.isTrainable {
          sink.rows(table, tokens: batch.tokens, outputGradient: dy, segments: batch.segments)
        }
      }
    )
  }
}
