# Writes Tests/Fixtures/models: tiny random models in the Hugging Face layout, with logits, losses and gradients
# computed by transformers in double precision. They are the oracle for our own models and Fisher estimates.
#
#   pip install torch transformers safetensors
#   python Tests/Fixtures/scripts/make_model_fixtures.py
#
# Every number is seeded; expected.json names the versions that made it. Weights are stored as float32 and the
# double-precision model is built from exactly these values.

import contextlib
import json
import pathlib

import safetensors.torch
import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "models"
LENGTHS = (9, 5)


def llama(seed, *, tied, key_heads, spelling):
    """A Llama; `spelling` picks the names older or newer releases of transformers write into config.json."""
    settings = dict(
        vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=key_heads, max_position_embeddings=32, rms_norm_eps=1e-5, initializer_range=0.2,
        tie_word_embeddings=tied, attention_bias=False, mlp_bias=False, hidden_act="silu",
        bos_token_id=1, eos_token_id=2)
    theta = 10000.0
    config = transformers.LlamaConfig(
        **settings, rope_parameters={"rope_type": "default", "rope_theta": theta}, attn_implementation="eager")
    written = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": 4, **settings}
    if spelling == "old":
        written |= {"rope_theta": theta, "rope_scaling": None, "torch_dtype": "float32"}
    else:
        written |= {"rope_parameters": {"rope_type": "default", "rope_theta": theta}, "dtype": "float32"}
    return build(transformers.LlamaForCausalLM, config, seed), written


def gpt2(seed, *, tied, inner):
    settings = dict(
        vocab_size=41, n_positions=24, n_embd=16, n_layer=2, n_head=4, n_inner=inner,
        activation_function="gelu_new", layer_norm_epsilon=1e-5, initializer_range=0.2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, scale_attn_weights=True, tie_word_embeddings=tied,
        bos_token_id=0, eos_token_id=0)
    config = transformers.GPT2Config(**settings, attn_implementation="eager")
    written = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "torch_dtype": "float32", **settings}
    return build(transformers.GPT2LMHeadModel, config, seed), written


def build(kind, config, seed):
    torch.manual_seed(seed)
    model = kind(config)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        # Biases start at 0 and gains at 1, where a swapped or forgotten one would not show.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.float().eval()


@contextlib.contextmanager
def everything_double(model):
    """transformers computes norms, softmax and rotary angles in float32 even in a double model; not in here."""
    if hasattr(model, "model") and hasattr(model.model, "rotary_emb"):
        width, theta = model.config.head_dim, model.config.rope_parameters["rope_theta"]
        model.model.rotary_emb.inv_freq = theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    names = torch.float32, torch.float, torch.Tensor.float
    torch.float32, torch.float, torch.Tensor.float = torch.float64, torch.float64, torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = names


def check_by_differences(model, sequence, gradients):
    """Central differences in double: an error of float32 size anywhere in the forward pass would show here."""
    for (key, parameter), gradient in zip(model.named_parameters(), gradients):
        index, step = int(gradient.abs().argmax()), 1e-5
        flat, sides = parameter.data.view(-1), []
        value = flat[index].item()
        for sign in (1, -1):
            flat[index] = value + sign * step
            with torch.no_grad():
                sides.append(losses(model, sequence)[1].item())
        flat[index] = value
        difference = (sides[0] - sides[1]) / (2 * step)
        exact = gradient.view(-1)[index].item()
        assert abs(difference - exact) < 1e-7 * max(1, abs(exact)), (key, difference, exact)


def losses(model, sequence):
    """Logits [T, V] and the summed next-token NLL of one sequence, alone in its batch."""
    ids = torch.tensor([sequence])
    logits = model(input_ids=ids).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")
    return logits, nll


def rounded(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def write(name, model, written, rename=lambda key: key):
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    # named_parameters lists a tied weight once, under its first name.
    stored = {rename(key): p.detach().clone() for key, p in model.named_parameters()}
    safetensors.torch.save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")

    model = model.double()
    generator = torch.Generator().manual_seed(len(name))
    vocabulary = written["vocab_size"]
    sequences = [torch.randint(0, vocabulary, (n,), generator=generator).tolist() for n in LENGTHS]
    parameters = dict(model.named_parameters())
    logits, sums, squares = [], [], {key: 0 for key in parameters}
    total = {key: 0 for key in parameters}
    for sequence in sequences:
        with everything_double(model):
            row, nll = losses(model, sequence)
            gradients = torch.autograd.grad(nll, list(parameters.values()))
            check_by_differences(model, sequence, gradients)
        for key, gradient in zip(parameters, gradients):
            total[key] = total[key] + gradient
            squares[key] = squares[key] + gradient**2
        logits.append([rounded(position) for position in row])
        sums.append(nll.item())
    scored = sum(n - 1 for n in LENGTHS)
    expected = {
        "made_by": f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}, float64",
        "sequences": sequences,
        "logits": logits,
        "scored_tokens": scored,
        "nll_per_sequence": sums,
        "nll_sum": sum(sums),
        "nll_mean": sum(sums) / scored,
        "gradients_of_nll_mean": {
            rename(key): {"shape": list(g.shape), "values": rounded(g / scored)} for key, g in total.items()},
        "squared_gradients_per_sequence_sum": {
            rename(key): {"shape": list(g.shape), "values": rounded(g)} for key, g in squares.items()},
    }
    text = json.dumps(expected, separators=(",", ":"))
    (folder / "expected.json").write_text(text.replace(',"', ',\n"') + "\n")


    check_reload(folder, sequences, logits)


def check_reload(folder, sequences, logits):
    """transformers itself must read the folder as written and give the same logits, to float32 precision."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for sequence, expected in zip(sequences, logits):
        with torch.no_grad():
            found = model(input_ids=torch.tensor([sequence])).logits[0]
        worst = (found - torch.tensor(expected)).abs().max().item()
        assert worst < 1e-4, (folder.name, worst)
        print(f"{folder.name}: {len(sequence)} tokens, reloaded logits differ by at most {worst:.1e}")


def main():
    torch.set_num_threads(1)
    write("llama-tied-gqa", *llama(11, tied=True, key_heads=2, spelling="old"))
    write("llama-untied", *llama(12, tied=False, key_heads=4, spelling="new"))
    write("gpt2-tied", *gpt2(13, tied=True, inner=None))
    write("gpt2-untied-noprefix", *gpt2(14, tied=False, inner=40), lambda key: key.removeprefix("transformer."))


if __name__ == "__main__":
    main()
