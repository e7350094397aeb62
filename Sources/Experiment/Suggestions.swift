// Finds what somebody probably meant: the nearest name, or the same thing in another tool's words.
// A wrong key costs a reader minutes; a wrong suggestion costs only a glance.

/// Names from other fine-tuning tools and what they are called here.
enum Aliases {
  static let keys: [(other: String, ours: String)] = [
    ("model_name_or_path", "base_model"), ("model", "base_model"), ("model_path", "base_model"),
    ("cutoff_len", "sequence_len"), ("max_length", "sequence_len"), ("max_seq_length", "sequence_len"),
    ("max_seq_len", "sequence_len"), ("block_size", "sequence_len"), ("seq_len", "sequence_len"),
    ("context_length", "sequence_len"), ("packing", "sample_packing"),
    ("per_device_train_batch_size", "micro_batch_size"), ("batch_size", "micro_batch_size"),
    ("train_batch_size", "micro_batch_size"), ("grad_accum", "gradient_accumulation_steps"),
    ("gradient_accumulation", "gradient_accumulation_steps"),
    ("num_train_epochs", "num_epochs"), ("epochs", "num_epochs"), ("iters", "max_steps"),
    ("num_steps", "max_steps"), ("steps", "max_steps"), ("max_iters", "max_steps"),
    ("num_train_tokens", "max_tokens"), ("lr", "learning_rate"), ("lr_scheduler_type", "lr_scheduler"),
    ("scheduler", "lr_scheduler"), ("warmup_steps", "warmup_ratio"), ("warmup", "warmup_ratio"),
    ("min_lr", "min_lr_ratio"), ("optim", "optimizer"), ("grad_clip", "max_grad_norm"),
    ("gradient_clipping", "max_grad_norm"), ("clip_grad_norm", "max_grad_norm"),
    ("beta1", "adam_beta1"), ("beta2", "adam_beta2"), ("eps", "adam_epsilon"),
    ("peft", "adapter"), ("lora_rank", "lora_r"), ("lora_target_modules", "lora_targets"),
    ("target_modules", "lora_targets"), ("bf16", "precision"), ("fp16", "precision"), ("dtype", "precision"),
    ("torch_dtype", "precision"),
    ("train_on_input", "train_on_inputs"), ("mask_prompt", "train_on_inputs"),
    ("validation", "val"), ("eval_dataset", "val"), ("valid", "val"), ("test_size", "val_set_size"),
    ("val_size", "val_set_size"), ("dataset", "datasets"), ("data", "datasets"),
    ("tasks", "stages"), ("experiences", "stages"), ("method", "methods"), ("strategy", "methods"),
    ("evaluation_steps", "eval_steps"), ("save_interval", "save_steps"), ("log_interval", "logging_steps"),
    ("ewc_lambda", "lambda"), ("importance", "lambda"), ("alpha", "lambda"), ("gamma", "decay"),
    ("replay_ratio", "ratio"), ("buffer_size", "budget_tokens"), ("mem_size", "budget_tokens"),
    ("memory_size", "budget_tokens"), ("n_embd", "hidden_size"), ("dim", "hidden_size"),
    ("n_layer", "num_hidden_layers"), ("n_layers", "num_hidden_layers"), ("n_head", "num_attention_heads"),
    ("n_heads", "num_attention_heads"), ("n_positions", "max_position_embeddings"),
    ("n_kv_heads", "num_key_value_heads"), ("n_shot", "num_fewshot"), ("fewshot", "num_fewshot"),
    ("file", "path"), ("files", "path"), ("out_dir", "output_dir"), ("out", "output_dir"),
    ("num_threads", "threads"), ("nthreads", "threads"), ("random_seed", "seed"),
  ]

  static func ours(for key: String) -> String? {
    keys.first { same($0.other, key.lowercased()) }?.ours
  }
}

enum Suggestions {
  /// The candidate nearest to `word`, if it is near enough to be worth naming.
  ///
  /// - Cost: at most 64 × 64 steps per candidate; longer words get no suggestion.
  static func nearest(to word: String, among candidates: [String]) -> String? {
    let typed = Array(word.lowercased().utf8)
    guard (1...64).contains(typed.count) else { return nil }
    var best: (distance: Int, name: String)?
    for candidate in candidates where candidate.utf8.count <= 64 {
      let name = Array(candidate.lowercased().utf8)
      let distance = editDistance(typed, name)
      if distance <= max(1, min(typed.count, name.count) / 3), distance < best?.distance ?? .max {
        best = (distance, candidate)
      }
    }
    return best?.name
  }

  /// The sentence that follows an unknown word: the nearest candidate, or all of them when they are few.
  static func hint(for word: String, among candidates: [String]) -> String? {
    if let near = nearest(to: word, among: candidates) { return "did you mean '\(near)'?" }
    guard !candidates.isEmpty, candidates.count <= 12 else { return nil }
    return "known: \(candidates.joined(separator: ", "))"
  }

  /// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
  static func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var beforeLast = [Int](repeating: 0, count: b.count + 1)
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      row.reserveCapacity(b.count + 1)
      for j in b.indices {
        var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
        row.append(cost)
      }
      beforeLast = last
      last = row
    }
    return last[b.count]
  }
}
