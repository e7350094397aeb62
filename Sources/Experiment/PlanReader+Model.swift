// Reads `base_model`: a path, or the description of a new model with its sizes checked.

extension PlanReader {
  func baseModel(_ top: Section) -> BaseModel? {
    guard
      top.require(
        "base_model", hint: "a Hugging Face folder, a .h5 checkpoint, or a mapping that describes a new model"
      ),
      let tree = top.tree("base_model")
    else { return nil }
    if tree.entries != nil { return description(tree).map { .new($0) } }
    guard let path = paths.existing(tree, "base_model", want: .fileOrFolder) else { return nil }
    switch Paths.kind(path) {
    case .folder: return .folder(path)
    case .file: return .checkpoint(path)
    default: return path.hasSuffix(".h5") ? .checkpoint(path) : .folder(path)
    }
  }

  private func description(_ tree: Tree) -> ModelDescription? {
    let section = Section(tree, name: "base_model", collector: collector)
    guard section.require("architecture", hint: "one of \(ModelDescription.names.joined(separator: ", "))"),
      let name = section.text("architecture")
    else { return nil }
    switch name {
    case "mlp": return classifier(section).map { .mlp($0) }
    case "llama": return transformer(section, rotary: true).map { .llama($0) }
    case "gpt2": return transformer(section, rotary: false).map { .gpt2($0) }
    default:
      section.report(
        "architecture", "unsupported architecture \(quoted(name))",
        hint: Suggestions.hint(for: name, among: ModelDescription.names), kind: .unsupported)
      return nil
    }
  }

  private func transformer(_ section: Section, rotary: Bool) -> TransformerDescription? {
    let width = 1...65_536
    func required(_ key: String, _ range: ClosedRange<Int>) -> Int? {
      section.require(key) ? section.integer(key, in: range) : nil
    }
    let hidden = required("hidden_size", width)
    let layers = required("num_hidden_layers", 1...512)
    let heads = required("num_attention_heads", 1...1024)
    let intermediate = section.integer("intermediate_size", in: 1...1_048_576)
    let keyValueHeads = rotary ? section.integer("num_key_value_heads", in: 1...1024) : nil
    let positions = section.integer("max_position_embeddings", in: 2...1_048_576)
    let theta = rotary ? section.number("rope_theta", .positive) ?? 10_000 : nil
    let epsilon = section.number(rotary ? "rms_norm_eps" : "layer_norm_epsilon", .positive)
    let tie = section.bool("tie_word_embeddings")
    let vocabulary = section.integer("vocab_size", in: 1...16_777_216)
    let tokenizer =
      section.require("tokenizer", hint: "a folder with tokenizer.json, or the file")
      ? section.tree("tokenizer").flatMap { paths.existing($0, "base_model.tokenizer", want: .fileOrFolder) }
      : nil
    section.finish()
    guard let hidden, let layers, let heads else { return nil }
    if hidden % heads != 0 {
      section.report("num_attention_heads", "\(heads) heads do not divide hidden_size \(hidden)")
    } else if rotary, hidden / heads % 2 != 0 {
      section.report(
        "num_attention_heads", "heads of \(hidden / heads) dimensions; rotary positions need an even number")
    }
    if let keyValueHeads, heads % keyValueHeads != 0 {
      section.report("num_key_value_heads", "\(keyValueHeads) key-value heads do not divide \(heads) heads")
    }
    guard let tokenizer else { return nil }
    // Llama's gated layer has three matrices, so 8/3 of the width costs what 4 costs with two.
    let defaultIntermediate = rotary ? (hidden * 8 / 3 + 31) / 32 * 32 : hidden * 4
    return TransformerDescription(
      hiddenSize: hidden, intermediateSize: intermediate ?? defaultIntermediate, layers: layers, heads: heads,
      keyValueHeads: keyValueHeads ?? heads, maxPositionEmbeddings: positions ?? (rotary ? 2048 : 1024),
      ropeTheta: theta, normEpsilon: epsilon ?? 1e-5, tieWordEmbeddings: tie ?? !rotary,
      vocabularySize: vocabulary, tokenizer: tokenizer)
  }

  private func classifier(_ section: Section) -> ClassifierDescription? {
    let sizes = section.require("hidden_sizes") ? section.integers("hidden_sizes", in: 1...65_536) : nil
    if let sizes, sizes.isEmpty, section.tree("hidden_sizes")?.items?.isEmpty == true {
      section.report("hidden_sizes", "expected at least one size", hint: "for example [400, 400]")
    }
    let heads =
      section.require("heads", hint: "task, domain or class")
      ? section.word("heads", ["task", "domain", "class"]) : nil
    let input = section.integer("input_size", in: 1...16_777_216)
    let initialization = section.word("initialization", ["uniform", "xavier"])
    section.finish()
    guard let sizes, let heads = heads.flatMap(ClassifierDescription.Heads.init(rawValue:)) else {
      return nil
    }
    return ClassifierDescription(
      hiddenSizes: sizes, heads: heads, inputSize: input,
      initialization: initialization.flatMap(ClassifierDescription.Initialization.init) ?? .uniform)
  }
}
