// The Llama family: root-mean-square norms, rotary positions, grouped queries, gated SiLU.
import Layers
import StrictJSON
import TensorCore

/// Llama, SmolLM, TinyLlama, and Mistral without a sliding window.
public enum Llama: Architecture {
  public static let card = ArchitectureCard(
    name: "llama", modelTypes: ["llama", "mistral"], classNames: ["LlamaForCausalLM", "MistralForCausalLM"],
    summary: "Llama, SmolLM, TinyLlama, Mistral (no sliding window): RMSNorm, rotary, SwiGLU, grouped-query attention")

  public static func configuration(_ json: JSON, path: String) throws(ModelError) -> TransformerConfiguration {
    let reader = ConfigurationReader(json: json, path: path)
    let hidden = try reader.integer("hidden_size", in: SizeLimit.width)
    let heads = try reader.integer("num_attention_heads", in: SizeLimit.heads)
    let keyHeads = try reader.integer("num_key_value_heads", default: heads, in: SizeLimit.heads)
    guard heads % keyHeads == 0 else {
      throw ModelError(
        .invalid, path, "num_attention_heads \(heads) is not a multiple of num_key_value_heads \(keyHeads)")
    }
    if json["head_dim"]?.int == nil, hidden % heads != 0 {
      throw ModelError(.invalid, path, "hidden_size \(hidden) is not a multiple of num_attention_heads \(heads)")
    }
    if let window = json["sliding_window"], !window.isNull, json["use_sliding_window"]?.bool != false {
      throw ModelError(.unsupported, path, "sliding_window attention is not supported")
    }
    let activation = reader.string("hidden_act") ?? "silu"
    guard activation == "silu" || activation == "swish" else {
      throw ModelError(.unsupported, path, "hidden_act \(activation) is not supported; expected silu")
    }
    var configuration = TransformerConfiguration(
      architecture: card.name, vocabularySize: try reader.integer("vocab_size", in: SizeLimit.vocabulary),
      hiddenSize: hidden, intermediateSize: try reader.integer("intermediate_size", in: SizeLimit.intermediate),
      layers: try reader.integer("num_hidden_layers", in: SizeLimit.layers), heads: heads, keyHeads: keyHeads,
      contextLength: try reader.integer("max_position_embeddings", default: 2048, in: SizeLimit.positions),
      epsilon: try reader.number("rms_norm_eps", default: 1e-6), ropeTheta: try ropeTheta(json, reader),
      tiesHead: try reader.flag("tie_word_embeddings", default: false))
    configuration.headDimension = try reader.integer("head_dim", default: hidden / heads, in: SizeLimit.width)
    guard configuration.headDimension % 2 == 0 else {
      throw ModelError(.invalid, path, "head_dim \(configuration.headDimension) is odd; rotary positions need pairs")
    }
    guard configuration.contextLength * configuration.headDimension <= SizeLimit.rotary else {
      throw ModelError(
        .invalid, path,
        "max_position_embeddings \(configuration.contextLength) with heads of \(configuration.headDimension) takes "
          + "rotary tables of more than \(SizeLimit.rotary) numbers")
    }
    configuration.attentionBias = try reader.flag("attention_bias", default: false)
    configuration.feedForwardBias = try reader.flag("mlp_bias", default: false)
    configuration.initializerRange = try reader.number("initializer_range", default: 0.02)
    configuration.bosToken = reader.token("bos_token_id")
    configuration.eosToken = reader.token("eos_token_id")
    return configuration
  }

  /// `rope_theta` beside `rope_scaling` (old spelling), or both inside `rope_parameters` (current spelling).
  private static func ropeTheta(_ json: JSON, _ reader: ConfigurationReader) throws(ModelError) -> Double {
    for key in ["rope_scaling", "rope_parameters"] {
      guard let scaling = json[key], !scaling.isNull else { continue }
      let kind = scaling["rope_type"]?.string ?? scaling["type"]?.string ?? "default"
      guard kind == "default" else {
        throw ModelError(
          .unsupported, reader.path, "\(key) of type \(kind) is not supported",
          hint: "only unscaled rotary positions can be computed")
      }
    }
    if let theta = json["rope_parameters"]?["rope_theta"] {
      return try ConfigurationReader(json: ["rope_theta": theta], path: reader.path).number(
        "rope_theta", default: 10000)
    }
    return try reader.number("rope_theta", default: 10000)
  }

  public static func json(_ c: TransformerConfiguration) -> JSON {
    [
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": .bool(c.attentionBias),
      "attention_dropout": 0.0, "bos_token_id": JSON(c.bosToken.map(Int.init)),
      "eos_token_id": JSON(c.eosToken.map(Int.init)), "head_dim": .integer(c.headDimension), "hidden_act": "silu",
      "hidden_size": .integer(c.hiddenSize), "initializer_range": .number(c.initializerRange),
      "intermediate_size": .integer(c.intermediateSize), "max_position_embeddings": .integer(c.contextLength),
      "mlp_bias": .bool(c.feedForwardBias), "num_attention_heads": .integer(c.heads),
      "num_hidden_layers": .integer(c.layers), "num_key_value_heads": .integer(c.keyHeads),
      "rms_norm_eps": .number(c.epsilon), "rope_theta": .number(c.ropeTheta),
      "tie_word_embeddings": .bool(c.tiesHead), "vocab_size": .integer(c.vocabularySize),
    ]
  }

  public static func declarations(_ c: TransformerConfiguration) -> [ParameterDeclaration] {
    let normal = Initialization.normal(deviation: c.initializerRange)
    let (width, keyWidth) = (c.heads * c.headDimension, c.keyHeads * c.headDimension)
    var all = [ParameterDeclaration("model.embed_tokens.weight", [c.vocabularySize, c.hiddenSize], normal)]
    for layer in 0..<c.layers {
      let prefix = "model.layers.\(layer)."
      func linear(_ name: String, _ outputs: Int, _ inputs: Int, bias: Bool) {
        all.append(ParameterDeclaration(prefix + name + ".weight", [outputs, inputs], normal))
        if bias { all.append(ParameterDeclaration(prefix + name + ".bias", [outputs], .zeros)) }
      }
      linear("self_attn.q_proj", width, c.hiddenSize, bias: c.attentionBias)
      linear("self_attn.k_proj", keyWidth, c.hiddenSize, bias: c.attentionBias)
      linear("self_attn.v_proj", keyWidth, c.hiddenSize, bias: c.attentionBias)
      linear("self_attn.o_proj", c.hiddenSize, width, bias: c.attentionBias)
      linear("mlp.gate_proj", c.intermediateSize, c.hiddenSize, bias: c.feedForwardBias)
      linear("mlp.up_proj", c.intermediateSize, c.hiddenSize, bias: c.feedForwardBias)
      linear("mlp.down_proj", c.hiddenSize, c.intermediateSize, bias: c.feedForwardBias)
      all.append(ParameterDeclaration(prefix + "input_layernorm.weight", [c.hiddenSize], .ones))
      all.append(ParameterDeclaration(prefix + "post_attention_layernorm.weight", [c.hiddenSize], .ones))
    }
    all.append(ParameterDeclaration("model.norm.weight", [c.hiddenSize], .ones))
    if !c.tiesHead { all.append(ParameterDeclaration("lm_head.weight", [c.vocabularySize, c.hiddenSize], normal)) }
    return all
  }

  public static func build(_ c: TransformerConfiguration, _ parts: ParameterLookup, on backend: any Backend)
    -> Transformer
  {
    let rotary = Rotary(
      headDimension: c.headDimension, positions: c.contextLength, theta: c.ropeTheta, on: backend)
    let shape = AttentionShape(
      heads: c.heads, keyHeads: c.keyHeads, headDimension: c.headDimension,
      scale: 1 / Float(c.headDimension).squareRoot())
    let epsilon = Float(c.epsilon)
    let table = parts["model.embed_tokens.weight"]
    let blocks = (0..<c.layers).map { layer in
      let prefix = "model.layers.\(layer)."
      func linear(_ name: String, bias: Bool) -> Linear {
        Linear(parts[prefix + name + ".weight"], bias: bias ? parts[prefix + name + ".bias"] : nil)
      }
      func norm(_ name: String) -> Normalization {
        Normalization(gain: parts[prefix + name + ".weight"], shift: nil, epsilon: epsilon)
      }
      return TransformerBlock(
        attentionNorm: norm("input_layernorm"),
        attention: SelfAttention(
          LinearGroup([
            linear("self_attn.q_proj", bias: c.attentionBias), linear("self_attn.k_proj", bias: c.attentionBias),
            linear("self_attn.v_proj", bias: c.attentionBias),
          ]),
          output: linear("self_attn.o_proj", bias: c.attentionBias), shape: shape, rotary: rotary),
        feedForwardNorm: norm("post_attention_layernorm"),
        feedForward: .gated(
          GatedFeedForward(
            gate: linear("mlp.gate_proj", bias: c.feedForwardBias),
            up: linear("mlp.up_proj", bias: c.feedForwardBias),
            down: linear("mlp.down_proj", bias: c.feedForwardBias))))
    }
    return Transformer(
      configuration: c, parameters: parts.store, embedding: Embedding(table: table), blocks: blocks,
      finalNorm: Normalization(gain: parts["model.norm.weight"], shift: nil, epsilon: epsilon),
      head: Linear(c.tiesHead ? table : parts["lm_head.weight"]))
  }
}
