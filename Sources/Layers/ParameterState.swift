// Flat vectors in checkpoints: one dataset a parameter, under its file name and shape.
import TensorCore

extension ParameterStore {
  /// Writes any vector of this layout, parameter by parameter.
  public func write(_ vector: Tensor, to writer: any StateWriter, under group: String, description: String) {
    writer.group(group, description: description)
    for parameter in parameters {
      writer.tensor(
        "\(group)/\(parameter.name)", vector.slice(parameter.range), shape: parameter.shape, description: nil)
    }
  }
  public func restore(_ vector: Tensor, from reader: any StateReader, under group: String) throws {
    for parameter in parameters {
      try reader.tensor("\(group)/\(parameter.name)", into: vector.slice(parameter.range))
    }
  }
}
