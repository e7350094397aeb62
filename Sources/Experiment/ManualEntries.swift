// The paragraphs of the manual, in the order of the experiment file.
// They say what a key does, its unit, its default and the trap, and nothing that the key's name says already.

extension Manual {
  static let exitCodes: [(code: Int, text: String)] = [
    (0, "Done."),
    (1, "Internal failure: a bug. Please report it with the message."),
    (2, "A gate is broken: a probe got worse by more than its limit (gates are not yet supported)."),
    (64, "Usage: the command line could not be understood."),
    (65, "Bad data, tokenizer, model or checkpoint. The message names the file and, for rows, the line."),
    (66, "An input is missing, or there is no good checkpoint to continue from."),
    (69, "A needed feature or library is missing, such as an unsupported architecture."),
    (71, "Not enough memory or another resource; the message says how much was needed."),
    (73, "The output cannot be created."),
    (74, "Input or output failed while running."),
    (
      75,
      """
      Stopped and resumable (SIGINT, SIGTERM, SIGHUP, SIGUSR1, time limit), or another run holds the \
      directory. Run the same command again to continue.
      """
    ),
    (77, "No permission."),
    (
      78,
      """
      Bad configuration: a mistake in the experiment file or an override. All mistakes are listed with \
      their places.
      """
    ),
    (
      80,
      """
      The main stack diverged: its chain ended at a loss that leapt, or where losses or gradients were no numbers \
      three steps in a row. Other variants of compare still ran. Lower the learning rate.
      """
    ),
    (130, "Second Ctrl-C: stopped at once; the last checkpoint is intact."),
  ]

  static let ewcUnits = """
      Units. Losses are means per target token; F is normalised per scored token (the sum over sequences of the
      squared gradient of the summed log-likelihood, divided by the scored tokens); the penalty is ½ λ Σ F (θ − θ*)².
      λ = N_old / N_new in tokens is then the Laplace posterior, whatever the batch or the sequence length.
      From another tool's strength to this λ, with everything else equal:
        penalty without the ½ (Avalanche, Mammoth)          double it: λ = 2 · theirs
        F summed over N examples instead of averaged        λ = N · theirs
        F a mean over sequences of T scored tokens          λ = T · theirs
        loss summed over the B tokens of a batch            λ = theirs / B
        F from squared gradients of a batch-mean loss       such an F is about n times too small, n the targets in
                                                            one mean (batch × tokens): λ = theirs / n
      The factors multiply. With labels: observed and unit: sequence the cross terms between tokens make F up to T
      times larger than with sampled labels, so a λ found with the one does not fit the other.
    """

  static let fileEntries = entriesBeforeTraining + trainingEntries + entriesAfterTraining

  private static let entriesBeforeTraining: [(key: String, text: String)] = [
    ("schema", "The version of the file's format. Only 1 exists. Default: 1."),
    (
      "plan",
      """
      Written by retain into plan.yaml: the experiment file the plan came from (file) and the command \
      line's overrides. It changes nothing in a run.
      """
    ),
    ("plan.file", "The experiment file that a plan.yaml was made from."),
    ("plan.overrides", "The key=value arguments that a plan.yaml already contains."),
    ("name", "The experiment's name: 1 to 64 of A-Z a-z 0-9 . _ -. It names the default output folder."),
    (
      "base_model",
      """
      What training starts from: a Hugging Face folder, a Retain checkpoint (.h5), or a mapping that \
      describes a new model.
      """
    ),
    ("base_model.architecture", "The kind of a new model: llama, gpt2 or mlp (a classifier)."),
    ("base_model.hidden_size", "The width of a new llama or gpt2; num_attention_heads must divide it."),
    (
      "base_model.intermediate_size",
      """
      The width of the feed-forward layer. Default: 8/3 of hidden_size rounded up to a multiple of 32 \
      for llama, 4 times for gpt2.
      """
    ),
    ("base_model.num_hidden_layers", "How many layers a new llama or gpt2 has."),
    ("base_model.num_attention_heads", "How many attention heads a layer has."),
    (
      "base_model.num_key_value_heads",
      """
      Llama: heads of keys and values, a divisor of num_attention_heads. Default: the same number.
      """
    ),
    (
      "base_model.max_position_embeddings",
      """
      The longest context in tokens. Default: 2048 for llama, 1024 for gpt2.
      """
    ),
    ("base_model.rope_theta", "Llama: the base of the rotary frequencies. Default: 10000."),
    ("base_model.rms_norm_eps", "Llama: what keeps the normalisation from dividing by zero. Default: 1e-5."),
    (
      "base_model.layer_norm_epsilon",
      """
      GPT-2: what keeps the normalisation from dividing by zero. Default: 1e-5.
      """
    ),
    (
      "base_model.tie_word_embeddings",
      """
      Whether input and output embeddings are one matrix. Default: false for llama, true for gpt2.
      """
    ),
    (
      "base_model.vocab_size",
      """
      The number of token ids; more than the tokenizer has leaves unused rows. Default: the \
      tokenizer's.
      """
    ),
    ("base_model.tokenizer", "The folder with tokenizer.json, or the file, for a new llama or gpt2."),
    ("base_model.hidden_sizes", "mlp: the widths of the hidden layers, for example [400, 400]."),
    (
      "base_model.heads",
      """
      mlp: task gives every stage its own softmax, domain shares one over the classes within a stage, \
      class has one over all classes.
      """
    ),
    (
      "base_model.initialization",
      """
      mlp: uniform draws weights and biases from ±1/√inputs, xavier draws weights from ±√(6/(inputs + outputs)) and \
      begins with biases of 0. Default: uniform.
      """
    ),
    ("base_model.input_size", "mlp: numbers per input. Default: from the data."),
    (
      "base_data",
      """
      Datasets of what the base model knows and must keep; never trained on as a stage. They feed the \
      Fisher of the base and the first replay. Without them the Fisher uses sequences sampled from the \
      model and replay starts empty.
      """
    ),
    ("base_tokens", "How many tokens of text the base model stands for; used by lambda: posterior only."),
    ("output_dir", "The run directory. Default: runs/NAME beside the experiment file."),
    ("threads", "How many threads compute. Results do not depend on it. Default: all cores."),
    (
      "time_limit",
      """
      After this time (8h, 90m, 30s, 1h30m) the run saves and exits 75; run it again to continue. \
      Default: none.
      """
    ),
    ("seed", "The seed of every random choice. Default: 17."),
    (
      "seeds",
      """
      Several seeds, for example [17, 18, 19]: the whole chain under every stack once for each, in folders seed-17 and so \
      on; results are means with standard errors over seeds. Excludes seed.
      """
    ),
  ]

  private static let entriesAfterTraining: [(key: String, text: String)] = [
    (
      "methods",
      """
      The stack of methods that guard what is known, for example [ewc: { lambda: 10 }]. [] is naive \
      fine-tuning. Default: [].
      """
    ),
    (
      "compare",
      """
      The same chain with the same seeds and data order under other stacks, by name, for example \
      naive: []. The main stack is listed under its methods' names joined by -.
      """
    ),
    ("stages", "What is trained, one after the other."),
    ("stages.name", "The stage's name; checkpoints and homes of probes refer to it."),
    ("stages.datasets", "The stage's data: a list of { path: … } or of plain paths."),
    (
      "stages.datasets.path",
      """
      A file, a pattern such as data/*.jsonl.gz, or a list of them; ${VAR} is replaced, ~ is not.
      """
    ),
    (
      "stages.datasets.type",
      """
      text, prompt_completion, text_label (or with + instead of _) or idx_images. Default: detected from the rows.
      """
    ),
    (
      "stages.datasets.weight",
      """
      How often the rows count, relative to the stage's other datasets. Default: 1.
      """
    ),
    (
      "stages.datasets.documents",
      """
      Where a document of a .txt file ends: blank_line, line or file. Default: blank_line.
      """
    ),
    ("stages.datasets.images", "The idx file of images, with type: idx_images."),
    ("stages.datasets.labels", "The idx file of labels, with type: idx_images."),
    ("stages.datasets.classes", "The labels that are used, for example [0, 1]. Default: all."),
    (
      "stages.datasets.permute_seed",
      """
      The seed of one fixed permutation of all pixels. Default: pixels as they are.
      """
    ),
    (
      "stages.datasets.limit",
      """
      With type: idx_images: uses only the first so many images, counted after the filter of classes. \
      Default: all.
      """
    ),
    (
      "stages.datasets.pad",
      """
      With type: idx_images: black pixels added on each side, before the permutation; 2 makes 28×28 to \
      32×32. Default: 0.
      """
    ),
    (
      "stages.datasets.normalize",
      """
      With type: idx_images: { mean: M, std: S } makes every pixel x from [0, 1] to (x − M)/S, those of \
      the padding included. Default: pixels stay in [0, 1].
      """
    ),
    ("stages.datasets.normalize.mean", "What is subtracted from every pixel."),
    ("stages.datasets.normalize.std", "What every pixel is divided by then; above 0."),
    ("stages.val", "Held-out data of the stage: a path, a dataset or a list of them."),
    (
      "stages.val_set_size",
      """
      The share of the stage's documents, or of a classifier's images, that is held out, for example 2%; instead of \
      val. What a document says decides, not the seed.
      """
    ),
    ("stages.training", "Keys of training that differ in this stage."),
    ("stages.methods", "A stack of its own for this stage. Variants of compare use their own stack instead."),
    ("probes", "Questions asked of the model before the first stage and after each."),
    ("probes.name", "The probe's name in results and reports."),
    ("probes.path", "The file, pattern or list of files that the probe asks from."),
    ("probes.type", "text, minimal_pairs, multiple_choice or class. Default: detected from the rows."),
    (
      "probes.metrics",
      """
      What is measured, the first counting in the summary: bits_per_byte and perplexity for text, acc \
      for minimal_pairs and class, acc and acc_norm for multiple_choice. Default: all of the type's.
      """
    ),
    ("probes.home", "The stage whose domain the probe measures; none for what the base knows."),
    ("probes.num_fewshot", "How many solved examples precede a question of multiple_choice. Default: 0."),
    (
      "probes.fewshot_path",
      """
      Where the examples come from; required with num_fewshot, and never the probe itself.
      """
    ),
    ("probes.prompt", "Replaces the prompt of multiple_choice."),
    ("probes.limit", "Uses only this many items. Default: all."),
    (
      "probes.documents",
      """
      Where a document of a .txt file ends: blank_line, line or file. Default: blank_line.
      """
    ),
    ("probes.images", "The idx file of images, with type: class."),
    ("probes.labels", "The idx file of labels, with type: class."),
    ("probes.classes", "The labels that are asked. Default: all."),
    ("probes.permute_seed", "The permutation of pixels, as in the stage's dataset."),
    ("probes.pad", "Black pixels on each side of the images, as in the stage's dataset."),
    ("probes.normalize", "The scale of the pixels, as in the stage's dataset."),
    ("probes.normalize.mean", "What is subtracted from every pixel."),
    ("probes.normalize.std", "What every pixel is divided by then; above 0."),
    ("evaluate", "When and how probes are asked."),
    ("evaluate.at", "base, stage_end or both. Default: [base, stage_end]."),
    ("evaluate.eval_steps", "Steps between checks within a stage; 0 is none. Default: 200."),
    ("evaluate.watch_items", "Items of each probe in a check within a stage. Default: 64."),
    ("evaluate.confidence", "The coverage of intervals. Default: 0.95."),
    ("evaluate.bootstrap", "Resamplings behind an interval. Default: 2000."),
    ("evaluate.window", "Tokens of context in scoring. Default: the model's context."),
    ("gates", "Limits on how much a probe may worsen: not yet supported."),
    ("data_checks", "What is looked for in the data before training."),
    (
      "data_checks.exact_duplicates",
      """
      drop, warn or off: documents that occur twice in training rows. Default: drop.
      """
    ),
    ("data_checks.near_duplicates", "off; looking for similar documents is not yet supported. Default: off."),
    ("data_checks.probe_overlap", "Looks for probe documents that stand in training rows."),
    (
      "data_checks.probe_overlap.ngram",
      """
      Words in a run that is compared (lower case, punctuation dropped). Default: 13.
      """
    ),
    (
      "data_checks.probe_overlap.document_share",
      """
      The share of a probe document's runs in training rows from which it counts as leaked. Default: \
      0.2.
      """
    ),
    (
      "data_checks.probe_overlap.max_documents",
      """
      The share of leaked documents above which action is taken; fewer are a warning. Default: 2%.
      """
    ),
    ("data_checks.probe_overlap.action", "error, warn or off. Default: error."),
    ("samples", "Prompts continued after each stage: not yet supported."),
    ("checkpoint", "When checkpoints are written; stage ends always are."),
    ("checkpoint.save_steps", "Steps between checkpoints; 0 saves at stage ends only. Default: 200."),
    (
      "checkpoint.save_total_limit",
      """
      How many checkpoints within stages are kept; stage ends always are. Default: 3.
      """
    ),
    ("logging", "What is written while training."),
    ("logging.logging_steps", "Steps between lines. Default: 10."),
    ("logging.report_to", "[jsonl], the ledger; tensorboard is not yet supported. Default: [jsonl]."),
    ("tune", "How retain tune searches a strength."),
    ("tune.stage", "The stage whose plasticity is measured. Default: the first."),
    (
      "tune.search",
      """
      Keys as on the command line with their ranges: { log_uniform: [low, high] }, { uniform: [low, \
      high] } or { values: [a, b] }.
      """
    ),
    (
      "tune.sampler",
      """
      halving (short trials first, the best third goes on), grid or random; tpe is not yet supported. \
      Default: halving.
      """
    ),
    ("tune.trials", "How many values are tried. Default: 12."),
    (
      "tune.pick",
      """
      knee (the largest plasticity_share + forgetting_avoided) or best_plasticity_at_retention>=0.97. \
      Default: knee.
      """
    ),
  ]
}
