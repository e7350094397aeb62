// The commented experiment file that `retain init` writes.
// It names few keys and says where the others are explained; a test reads it like any experiment.

extension ExperimentFile {
  /// A commented experiment file with two stages, two methods and a comparison.
  ///
  /// - Parameter name: 1 to 64 of `A-Z a-z 0-9 . _ -`; other characters are replaced by `-`.
  public static func template(name: String = "my-experiment") -> String {
    var clean = String(
      name.unicodeScalars.prefix(64).map { scalar in
        PlanReader.isName(String(scalar)) || scalar == "." ? Character(scalar) : "-"
      })
    if !PlanReader.isName(clean) { clean = "my-experiment" }
    return """
      # An experiment for retain: a base model, stages trained one after the other, probes asked in between.
      #   retain validate FILE     every mistake at once, trains nothing
      #   retain run FILE          runs it; run again after any interruption, it continues
      #   retain explain KEY       what a key means, for example  retain explain training.learning_rate
      # Paths are relative to this file and may use ${VARIABLES}.
      schema: 1
      name: \(YAMLText.render(clean))

      # A Hugging Face folder, a Retain checkpoint (.h5), or a description of a new model:
      #   base_model: { architecture: llama, hidden_size: 256, num_hidden_layers: 6, num_attention_heads: 8,
      #                 tokenizer: models/tokenizer }
      base_model: models/base

      # What the base model knows and must keep; never trained on as a stage.
      base_data:
        - { path: data/general/train.jsonl }
      # base_tokens: 4_000_000       # only for lambda: posterior

      output_dir: \(YAMLText.render("runs/" + clean))
      # threads: 2                   # default: all cores
      # time_limit: 8h               # then save and exit 75
      seed: 17

      # Defaults of all stages; a stage may override any of them.
      training:
        sequence_len: 512
        micro_batch_size: 4
        gradient_accumulation_steps: 2
        num_epochs: 1                # or max_steps, or max_tokens
        learning_rate: 2e-5
        lr_scheduler: cosine         # cosine | linear | constant | wsd (each stage anew) | infinite
        warmup_ratio: 3%

      # What guards the past; [] is naive fine-tuning.
      methods:
        - ewc: { lambda: 10 }        # retain explain ewc; retain tune finds the strength
        - replay: { ratio: 10%, budget_tokens: 500_000 }

      # The same chain, same seed and data order, under other stacks.
      compare:
        naive: []
        l2sp: [ { l2sp: { lambda: 0.01 } } ]

      stages:
        - name: medical
          datasets:
            - { path: data/medical/train.jsonl }
          val_set_size: 2%
          # training: { num_epochs: 2 }
        - name: legal
          datasets:
            - { path: "data/legal/*.jsonl" }

      # Asked before the first stage and after each; home is the stage whose domain a probe measures.
      probes:
        - { name: general, path: data/general/test.jsonl }
        - { name: medical, path: data/medical/test.jsonl, home: medical }

      # evaluate: { eval_steps: 200 }
      # checkpoint: { save_steps: 200, save_total_limit: 3 }
      # tune:
      #   search: { methods.ewc.lambda: { log_uniform: [1e-3, 1e3] } }

      """
  }
}
