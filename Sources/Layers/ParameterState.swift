// Flat vectors in checkpoints: one dataset a parameter, under its file name and shape.
import TensorCore

extension ParameterStore {
  /// Writes any vector of this layout, parameter by parameter.
  ///
  /// - Parameter storage: bf16 for a vector that is rounded already
  public func write(
    _ vector: Tensor, storage: Precision = .fp32, to writer: any StateWriter, under group: String, description: String
  ) {
    writer.group(group, description: description)
    for parameter in parameters {
      let (path, values) = ("\(group)/\(parameter.name)", vector.slice(parameter.range))
      switch storage {
      case .fp32: writer.tensor(path, values, shape: parameter.shape, description: nil)
      case .bf16: writer.roundedTensor(path, values, shape: parameter.shape, description: nil)
      }
    }
  }
  public func restore(_ vector: Tensor, from reader: any StateReader, under group: String) throws {
    for parameter in parameters {
      try reader.tensor("\(group)/\(parameter.name)", into: vector.slice(parameter.range))
    }
  }
}
