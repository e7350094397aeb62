"""What every peer script shares: options, models, batches, timing, and the JSON it prints.

Needs torch, transformers and numpy:  pip install torch transformers numpy
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as functional

# As `retain bench` names them.
LLAMA = {
    "stories15m": dict(hidden=288, inner=768, layers=6, heads=6, context=256),
    "llama-42m": dict(hidden=512, inner=1376, layers=8, heads=8, context=1024),
}
GPT2 = dict(hidden=768, inner=3072, layers=12, heads=12, vocabulary=50257, context=1024)
# The constants of `retain bench`.
BETAS, EPSILON, WEIGHT_DECAY, MAXIMUM_NORM = (0.9, 0.999), 1e-8, 0.01, 1.0
WARM_STEPS = 2


def options(description, tasks=()):
    """A parser with the options that all scripts understand."""
    parser = argparse.ArgumentParser(description=description)
    if tasks:
        parser.add_argument("task", choices=tasks)
    parser.add_argument("--model", default="stories15m", choices=["gpt2", *LLAMA])
    parser.add_argument("--shape", default="", help="other sizes: hidden=1024,inner=2736,layers=25,heads=16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--weights", help="Hugging Face folder; else random weights")
    parser.add_argument("--tokens", help="JSON rows of seq + 1 ids; else one random batch")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    return parser


def start(arguments):
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(17)


def sizes(arguments):
    """The sizes of the wanted shape."""
    known = dict(GPT2) if arguments.model == "gpt2" else dict(LLAMA[arguments.model], vocabulary=32000)
    for part in filter(None, arguments.shape.split(",")):
        key, value = part.split("=")
        if key not in known:
            raise SystemExit(f"--shape knows {', '.join(known)}")
        known[key] = int(value)
    known["context"] = max(known["context"], arguments.seq)
    return known


def model(arguments):
    """The model of transformers, which attends by scaled_dot_product_attention; without dropout."""
    import transformers

    transformers.utils.logging.disable_progress_bar()

    if arguments.weights:
        network = transformers.AutoModelForCausalLM.from_pretrained(arguments.weights, dtype=torch.float32)
    elif arguments.model == "gpt2":
        s = sizes(arguments)
        network = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=s["vocabulary"], n_embd=s["hidden"], n_inner=s["inner"], n_layer=s["layers"],
            n_head=s["heads"], n_positions=s["context"], resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            bos_token_id=None, eos_token_id=None))
    else:
        s = sizes(arguments)
        network = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=s["vocabulary"], hidden_size=s["hidden"], intermediate_size=s["inner"],
            num_hidden_layers=s["layers"], num_attention_heads=s["heads"], num_key_value_heads=s["heads"],
            max_position_embeddings=s["context"], rms_norm_eps=1e-6, tie_word_embeddings=True))
    network.config.use_cache = False
    return network.train()


def batches(arguments, vocabulary):
    """Pairs of inputs and targets, [B, T] each; the target of a place is the next id."""
    if arguments.tokens:
        rows = torch.tensor(json.load(open(arguments.tokens)))
        if rows.shape[1] != arguments.seq + 1 or rows.shape[0] % arguments.batch:
            raise SystemExit(f"{arguments.tokens} has {tuple(rows.shape)} ids")
    else:
        rows = torch.randint(0, vocabulary, (arguments.batch, arguments.seq + 1))
    return [(part[:, :-1].contiguous(), part[:, 1:].contiguous()) for part in rows.split(arguments.batch)]


def loss_function(network, arguments):
    """Mean loss in nats over all places; the shift is in the batches, so that nothing is copied here."""
    def loss(inputs, targets):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits = network(input_ids=inputs).logits
        return functional.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.view(-1))

    return torch.compile(loss) if arguments.compile else loss


def adamw(parameters, learning_rate):
    """AdamW as `retain bench` has it: fused, decay on matrices alone."""
    parameters = list(parameters)
    return torch.optim.AdamW(
        [dict(params=[p for p in parameters if p.dim() > 1], weight_decay=WEIGHT_DECAY),
         dict(params=[p for p in parameters if p.dim() <= 1], weight_decay=0.0)],
        lr=learning_rate, betas=BETAS, eps=EPSILON, fused=True)


def timed(step):
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def median_seconds(step, count):
    for _ in range(WARM_STEPS):
        step()
    return statistics.median(timed(step) for _ in range(count))


def medians_in_turn(first, second, count):
    """Medians of two kinds of step taken in turn, and the median of second ÷ first of each turn."""
    for _ in range(WARM_STEPS):
        first()
        second()
    pairs = [(timed(first), timed(second)) for _ in range(count)]
    return (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs),
            statistics.median(b / a for a, b in pairs))


def report(task, arguments, seconds, tokens=None, **details):
    import transformers

    print(json.dumps(dict(
        task=task, model=os.path.basename(arguments.weights or arguments.model), shape=arguments.shape, batch=arguments.batch,
        seq=arguments.seq, precision=arguments.precision, compile=arguments.compile, threads=arguments.threads,
        steps=arguments.steps, torch=torch.__version__, transformers=transformers.__version__,
        cpu_capability=torch.backends.cpu.get_cpu_capability(), seconds_per_step=round(seconds, 6),
        tokens_per_second=round(tokens / seconds, 1) if tokens else None,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, **details), indent=2))
