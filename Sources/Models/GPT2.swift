// GPT-2: learned positions, layer norms with shifts, one fused projection, GELU, weights stored input by output.
import Layers
import StrictJSON
import TensorCore

public enum GPT2: Architecture {
  public static let card = ArchitectureCard(
    name: "gpt2", modelTypes: ["gpt2"], classNames: ["GPT2LMHeadModel"],
    summary: "GPT-2: learned positions, LayerNorm, GELU, fused attention projection")

  public static func configuration(_ json: JSON, path: String) throws(ModelError) -> TransformerConfiguration {
    let reader = ConfigurationReader(json: json, path: path)
    let hidden = try reader.integer("n_embd", in: SizeLimit.width)
    let heads = try reader.integer("n_head", in: SizeLimit.heads)
    guard hidden % heads == 0 else {
      throw ModelError(.invalid, path, "n_embd \(hidden) is not a multiple of n_head \(heads)")
    }
    let activation = reader.string("activation_function") ?? "gelu_new"
    guard ["gelu_new", "gelu_pytorch_tanh"].contains(activation) else {
      throw ModelError(.unsupported, path, "activation_function \(activation) is not supported; expected gelu_new")
    }
    for key in ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"]
    where json[key]?.bool == true {
      throw ModelError(.unsupported, path, "\(key) is not supported")
    }
    if json["scale_attn_weights"]?.bool == false {
      throw ModelError(.unsupported, path, "scale_attn_weights: false is not supported")
    }
    var configuration = TransformerConfiguration(
      architecture: card.name, vocabularySize: try reader.integer("vocab_size", in: SizeLimit.vocabulary),
      hiddenSize: hidden,
      intermediateSize: try reader.integer("n_inner", default: 4 * hidden, in: SizeLimit.intermediate),
      layers: try reader.integer("n_layer", in: SizeLimit.layers), heads: heads, keyHeads: heads,
      contextLength: try reader.integer("n_positions", default: 1024, in: SizeLimit.positions),
      epsilon: try reader.number("layer_norm_epsilon", default: 1e-5), ropeTheta: 0,
      tiesHead: try reader.flag("tie_word_embeddings", default: true))
    configuration.initializerRange = try reader.number("initializer_range", default: 0.02)
    configuration.attentionBias = true
    configuration.feedForwardBias = true
    configuration.bosToken = reader.token("bos_token_id")
    configuration.eosToken = reader.token("eos_token_id")
    return configuration
  }

  public static func json(_ c: TransformerConfiguration) -> JSON {
    [
      "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
      "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": JSON(c.bosToken.map(Int.init)),
      "eos_token_id": JSON(c.eosToken.map(Int.init)), "initializer_range": .number(c.initializerRange),
      "layer_norm_epsilon": .number(c.epsilon), "n_ctx": .integer(c.contextLength), "n_embd": .integer(c.hiddenSize),
      "n_head": .integer(c.heads), "n_inner": .integer(c.intermediateSize), "n_layer": .integer(c.layers),
      "n_positions": .integer(c.contextLength), "scale_attn_weights": true, "tie_word_embeddings": .bool(c.tiesHead),
      "vocab_size": .integer(c.vocabularySize),
    ]
  }

  public static func declarations(_ c: TransformerConfiguration) -> [ParameterDeclaration] {
    let normal = Initialization.normal(deviation: c.initializerRange)
    // Projections onto the residual stream start smaller, by the square root of their number.
    let onto = Initialization.normal(deviation: c.initializerRange / Double(2 * c.layers).squareRoot())
    let (hidden, inner) = (c.hiddenSize, c.intermediateSize)
    var all = [
      ParameterDeclaration("transformer.wte.weight", [c.vocabularySize, hidden], normal),
      ParameterDeclaration("transformer.wpe.weight", [c.contextLength, hidden], normal),
    ]
    for layer in 0..<c.layers {
      let prefix = "transformer.h.\(layer)."
      func norm(_ name: String) {
        all.append(ParameterDeclaration(prefix + name + ".weight", [hidden], .ones))
        all.append(ParameterDeclaration(prefix + name + ".bias", [hidden], .zeros))
      }
      func linear(_ name: String, _ inputs: Int, _ outputs: Int, _ initialization: Initialization) {
        all.append(ParameterDeclaration(prefix + name + ".weight", [inputs, outputs], initialization))
        all.append(ParameterDeclaration(prefix + name + ".bias", [outputs], .zeros))
      }
      norm("ln_1")
      linear("attn.c_attn", hidden, 3 * hidden, normal)
      linear("attn.c_proj", hidden, hidden, onto)
      norm("ln_2")
      linear("mlp.c_fc", hidden, inner, normal)
      linear("mlp.c_proj", inner, hidden, onto)
    }
    all.append(ParameterDeclaration("transformer.ln_f.weight", [hidden], .ones))
    all.append(ParameterDeclaration("transformer.ln_f.bias", [hidden], .zeros))
    if !c.tiesHead { all.append(ParameterDeclaration("lm_head.weight", [c.vocabularySize, hidden], normal)) }
    return all
  }

  /// Files name tensors with and without the leading `transformer.`.
  public static func aliases(of name: String) -> [String] {
    name.hasPrefix("transformer.") ? [String(name.dropFirst("transformer.".count))] : []
  }
  /// Causal masks that old files carry as tensors.
  public static func isIgnored(_ name: String) -> Bool {
    name.hasSuffix(".attn.bias") || name.hasSuffix(".attn.masked_bias")
  }

  public static func build(_ c: TransformerConfiguration, _ parts: ParameterLookup, on backend: any Backend)
    -> Transformer
  {
    let shape = AttentionShape(
      heads: c.heads, keyHeads: c.heads, headDimension: c.headDimension,
      scale: 1 / Float(c.headDimension).squareRoot())
    func norm(_ name: String) -> Normalization {
      Normalization(gain: parts[name + ".weight"], shift: parts[name + ".bias"], epsilon: Float(c.epsilon))
    }
    func linear(_ name: String) -> Linear {
      Linear(parts[name + ".weight"], bias: parts[name + ".bias"], layout: .inputByOutput)
    }
    let blocks = (0..<c.layers).map { layer in
      let prefix = "transformer.h.\(layer)."
      return TransformerBlock(
        attentionNorm: norm(prefix + "ln_1"),
        attention: SelfAttention(
          LinearGroup([linear(prefix + "attn.c_attn")]), output: linear(prefix + "attn.c_proj"), shape: shape,
          rotary: nil),
        feedForwardNorm: norm(prefix + "ln_2"),
        feedForward: .plain(
          FeedForward(expand: linear(prefix + "mlp.c_fc"), contract: linear(prefix + "mlp.c_proj"))))
    }
    let table = parts["transformer.wte.weight"]
    return Transformer(
      configuration: c, parameters: parts.store,
      embedding: Embedding(table: table, positions: parts["transformer.wpe.weight"]), blocks: blocks,
      finalNorm: norm("transformer.ln_f"), head: Linear(c.tiesHead ? table : parts["lm_head.weight"]))
  }
}
