// The manual's paragraphs on how a stage trains, in the order of the experiment file.

extension Manual {
  static let trainingEntries: [(key: String, text: String)] = [
    ("training", "Defaults of all stages; a stage may override any key under its own training."),
    (
      "training.sequence_len",
      """
      Tokens in a training row. Scoring uses the model's context instead. Default: 512.
      """
    ),
    (
      "training.sample_packing",
      """
      Whether short documents share a row; packed documents never see each other. Default: true.
      """
    ),
    (
      "training.train_on_inputs",
      """
      Whether prompts carry loss too; false trains on completions only. Default: false.
      """
    ),
    (
      "training.excess_length_strategy",
      """
      What happens to documents longer than a row: split, truncate, drop or raise. Default: split for \
      text, truncate for pairs (counted and said).
      """
    ),
    ("training.micro_batch_size", "Stage rows in one forward pass; replayed rows come on top. Default: 4."),
    (
      "training.gradient_accumulation_steps",
      """
      Micro batches in one step, weighted by tokens, equal to the one big batch. Default: 1.
      """
    ),
    (
      "training.num_epochs",
      """
      How often a stage passes over its rows. Exactly one of num_epochs, max_steps and max_tokens \
      holds; a stage's choice replaces the default's. Default: 1.
      """
    ),
    ("training.max_steps", "How many optimizer steps a stage takes, instead of num_epochs."),
    (
      "training.max_tokens",
      """
      After how many stage tokens a stage ends, instead of num_epochs; replayed tokens do not count.
      """
    ),
    ("training.optimizer", "adamw or sgd. Default: adamw."),
    ("training.learning_rate", "The highest learning rate of the stage. Default: 2e-5."),
    (
      "training.lr_scheduler",
      """
      cosine, linear, constant or wsd (warm up, stay, decay), each anew at every stage; or infinite, one schedule for \
      the whole chain: the first stage warms up and cools down to a constant rate, the last one anneals, and no stage \
      warms up again. Default: cosine.
      """
    ),
    (
      "training.warmup_ratio",
      """
      The share of a stage's steps in which the learning rate rises. Default: 0.03.
      """
    ),
    ("training.min_lr_ratio", "The last learning rate as a share of the highest. Default: 0.1."),
    (
      "training.constant_lr_ratio",
      "The constant learning rate of lr_scheduler: infinite as a share of the highest. Default: 0.5."
    ),
    ("training.weight_decay", "Decoupled decay towards zero. Default: 0.01."),
    (
      "training.max_grad_norm",
      """
      The task gradient is scaled down to this norm; penalties are applied after it. 0 is off. \
      Default: 1.0.
      """
    ),
    ("training.adam_beta1", "Adam's memory of the gradient. Default: 0.9."),
    ("training.adam_beta2", "Adam's memory of the squared gradient. Default: 0.999."),
    ("training.adam_epsilon", "What Adam adds to the root of the squared gradient. Default: 1e-8."),
    (
      "training.optimizer_state",
      """
      reset: every stage begins with new moments; keep: it goes on with those of the stage before, where that had the \
      same optimizer. The learning rate warms up again in both cases, except under lr_scheduler: infinite, which goes \
      with keep. Default: reset.
      """
    ),
    (
      "training.precision",
      """
      fp32 | bf16: the numbers in matrix products of training and of the Fisher information. bf16 rounds both \
      operands and sums in fp32; weights, moments, Fisher and anchors stay fp32, and probes are measured in fp32. \
      Where the CPU has no bf16 instructions, or Retain was built without oneDNN, fp32 is used and the run says so. \
      Default: fp32.
      """
    ),
    (
      "training.gradient_checkpointing",
      """
      Keep only the input of every decoder block and compute the block again on the way back: less \
      memory for about a third more time, and the same results bit for bit. A run may be continued with \
      another value; a stage may have its own. Default: false.
      """
    ),
    (
      "training.freeze",
      """
      Globs of parameter names that stay as they are, for example ["*.embed_tokens.*"]. Default: [].
      """
    ),
    (
      "training.adapter",
      """
      none, or lora: a stage trains two thin factors of each weight, W = W₀ + α/r · B·A, and nothing else; at its end the \
      weights are W, and the next stage begins a new adapter from them. Steps cost what they cost without one; what \
      is saved is the optimizer's memory. The pulls of ewc, l2sp, si, rwalk and mas act on W, through the optimizer \
      whatever form they ask for. Not with methods that move or hold weights themselves (agem, gem, ogd, fisher_freeze, \
      ewc with structure: kronecker and form: proximal), nor with optimizer_state: keep. Frozen \
      parameters get no factors. Default: none.
      """
    ),
    (
      "training.lora_r",
      """
      With adapter: lora, the rank of the change of a weight; a weight with fewer rows or columns gets as many. \
      Default: 8.
      """
    ),
    ("training.lora_alpha", "With adapter: lora, the α of the factor α/r on the change. Default: 16."),
    (
      "training.lora_targets",
      """
      With adapter: lora, globs of the names of weights that get one, for example ["*.q_proj.*", "*.v_proj.*"]; \
      retain inspect lists names. Default: every matrix except embeddings and heads.
      """
    ),
    (
      "training.lora_orthogonality",
      """
      With adapter: lora, O-LoRA's λ of Σ |A·Aₖᵀ| over the adapters of earlier stages k, so that each stage reads \
      other directions of its input; 0.5 is usual, 0 is off. Default: 0.
      """
    ),
    (
      "training.early_stopping_patience",
      """
      A stage ends after this many validation checks without improvement; needs val or val_set_size. 0 \
      is off. Default: 0.
      """
    ),
    (
      "training.loss_watchdog_threshold",
      """
      A loss above this many times its running mean counts as diverging: the chain of that variant ends there, the \
      others still run; exit 80 where it is the main stack. 0 is off. Default: 5.0.
      """
    ),
  ]
}
