// The idx files of MNIST and its kin: images of bytes and their class numbers, plain or gzip.
// Here for the small classifier benchmarks (split and permuted MNIST).

/// Grey images of one size with their labels.
public struct IdxImages: Sendable {
  /// Brightness in [0, 1], image after image, row after row; on another scale once normalised.
  public private(set) var pixels: [Float]
  public private(set) var rows: Int
  public private(set) var columns: Int
  /// The class numbers as the file has them.
  public let labels: [Int]
  public var count: Int { labels.count }

  /// A number for each image that its pixels alone decide, for `Holdout`.
  public var hashes: [UInt64] {
    let size = rows * columns
    return (0..<count).map { image in
      pixels[(image * size)..<((image + 1) * size)].reduce(1) { ShuffleGenerator.mix($0 ^ UInt64($1.bitPattern)) }
    }
  }

  private static let limit = 2 << 30

  /// Reads a pair of files, keeping only images of `classes` (nil: all) and of those the first `first` (nil: all),
  /// in the files' order.
  ///
  /// - Throws: `DataError` naming the file whose header, size or count is wrong; `bad` where no image is left.
  public static func read(
    images: String, labels: String, classes: [Int]? = nil, first: Int? = nil
  ) throws(DataError) -> IdxImages {
    let imageBytes = try ByteSource(path: images, limit: limit).all()
    let labelBytes = try ByteSource(path: labels, limit: limit).all()
    let imageShape = try header(imageBytes, of: images, magic: 0x0803, dimensions: 3)
    let labelShape = try header(labelBytes, of: labels, magic: 0x0801, dimensions: 1)
    guard imageShape[0] == labelShape[0] else {
      throw DataError(
        .bad, file: labels, reason: "\(labelShape[0]) labels for \(imageShape[0]) images in \(images)",
        hint: "give the two files of the same set")
    }
    let size = imageShape[1] * imageShape[2]
    let ofClass = (0..<imageShape[0]).filter { classes?.contains(Int(labelBytes[8 + $0])) ?? true }
    let kept = ofClass.prefix(first ?? ofClass.count)
    guard !kept.isEmpty else {
      throw DataError(.bad, file: labels, reason: "no image has one of the classes", hint: "check `classes`")
    }
    var pixels: [Float] = []
    pixels.reserveCapacity(kept.count * size)
    for index in kept {
      for byte in imageBytes[(16 + index * size)..<(16 + (index + 1) * size)] { pixels.append(Float(byte) / 255) }
    }
    return IdxImages(
      pixels: pixels, rows: imageShape[1], columns: imageShape[2], labels: kept.map { Int(labelBytes[8 + $0]) })
  }

  /// The same images inside a frame of black pixels, `margin` on each side.
  public func padded(by margin: Int) -> IdxImages {
    guard margin > 0 else { return self }
    var copy = self
    copy.rows = rows + 2 * margin
    copy.columns = columns + 2 * margin
    copy.pixels = [Float](repeating: 0, count: count * copy.rows * copy.columns)
    for image in 0..<count {
      for row in 0..<rows {
        let from = (image * rows + row) * columns
        let to = (image * copy.rows + row + margin) * copy.columns + margin
        for column in 0..<columns { copy.pixels[to + column] = pixels[from + column] }
      }
    }
    return copy
  }

  /// (x − mean) / std for every pixel x, those of a frame included.
  public func normalized(mean: Float, std: Float) -> IdxImages {
    var copy = self
    for index in copy.pixels.indices { copy.pixels[index] = (pixels[index] - mean) / std }
    return copy
  }

  /// Where each of `size` pixels comes from in the permutation of a seed.
  public static func permutation(of size: Int, seed: UInt64) -> [Int] {
    var generator = ShuffleGenerator(seed: seed, stream: 0x7065_726D)
    return generator.permutation(size)
  }

  /// The same images with their pixels in another order, one order for all: a task of permuted MNIST.
  public func permuted(seed: UInt64) -> IdxImages {
    let size = rows * columns
    let order = Self.permutation(of: size, seed: seed)
    var copy = self
    for image in 0..<count {
      for (to, from) in order.enumerated() { copy.pixels[image * size + to] = pixels[image * size + from] }
    }
    return copy
  }

  private static func header(
    _ bytes: [UInt8], of file: String, magic: Int, dimensions: Int
  ) throws(DataError) -> [Int] {
    func word(_ index: Int) -> Int { (0..<4).reduce(0) { $0 << 8 | Int(bytes[index * 4 + $1]) } }
    let start = 4 * (1 + dimensions)
    guard bytes.count >= start, word(0) == magic else {
      throw DataError(
        .bad, file: file, reason: "no idx file of bytes with \(dimensions) dimension\(dimensions == 1 ? "" : "s")",
        hint: "`images` takes an idx3-ubyte file, `labels` an idx1-ubyte file")
    }
    let shape = (1...dimensions).map(word)
    var size = 1
    for extent in shape {
      let (product, overflow) = size.multipliedReportingOverflow(by: extent)
      guard !overflow, extent > 0 else {
        throw DataError(.bad, file: file, reason: "the header says \(shape)", hint: "fetch the file again")
      }
      size = product
    }
    guard bytes.count - start == size else {
      throw DataError(
        .bad, file: file, reason: "\(bytes.count - start) bytes of data, the header says \(size)",
        hint: "the file is damaged: fetch it again")
    }
    return shape
  }
}
