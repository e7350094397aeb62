"""Parts of a step in PyTorch: attention of all layers, the head with its loss, AdamW without and with a penalty.

  parts.py attention --model gpt2 --batch 4 --seq 512 --documents 4 --packed loop|mask
  parts.py head --model gpt2 --batch 4 --seq 256
  parts.py optimizer --model gpt2
"""
import torch
import torch.nn.functional as functional

import common


def document_lengths(count, length):
    """Documents of one, two, three … parts of a sequence, as `retain bench attention --documents` cuts them."""
    parts = count * (count + 1) // 2
    lengths = [max(1, i * length // parts) for i in range(1, count)]
    return lengths + [length - sum(lengths)]


def attention(arguments, shape):
    """Forward and backward of one layer, times the layers."""
    width = shape["hidden"] // shape["heads"]
    kind = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    size = (arguments.batch, shape["heads"], arguments.seq, width)
    q, k, v = (torch.rand(size, dtype=kind, requires_grad=True) for _ in range(3))
    gradient = torch.rand(size, dtype=kind)
    lengths = document_lengths(arguments.documents, arguments.seq)
    mask = None
    if arguments.documents > 1 and arguments.packed == "mask":
        mask = torch.block_diag(*(torch.ones(n, n) for n in lengths)).tril().bool()

    def attend(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)

    run = torch.compile(attend) if arguments.compile else attend

    def step():
        q.grad = k.grad = v.grad = None
        if arguments.documents == 1 or mask is not None:
            run(q, k, v).backward(gradient)
            return
        # Rows of real data are cut at different places, so each document is a call of its own.
        for row in range(arguments.batch):
            first = 0
            for n in lengths:
                place = (slice(row, row + 1), slice(None), slice(first, first + n))
                run(q[place], k[place], v[place]).backward(gradient[place])
                first += n

    seconds = common.median_seconds(step, arguments.steps) * shape["layers"]
    common.report("attention", arguments, seconds, arguments.batch * arguments.seq,
                  documents=arguments.documents, packed=arguments.packed,
                  sum_of_squared_lengths=arguments.batch * sum(n * n for n in lengths))


def head(arguments, shape):
    """linear and cross_entropy, forward and backward, gradients by the hidden states and by the weight."""
    tokens = arguments.batch * arguments.seq
    hidden = torch.rand(tokens, shape["hidden"], requires_grad=True)
    weight = (0.02 * torch.rand(shape["vocabulary"], shape["hidden"])).requires_grad_()
    targets = torch.randint(0, shape["vocabulary"], (tokens,))

    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits = functional.linear(hidden, weight)
        return functional.cross_entropy(logits.float(), targets)

    run = torch.compile(loss) if arguments.compile else loss

    def step():
        hidden.grad = weight.grad = None
        run().backward()

    common.report("head", arguments, common.median_seconds(step, arguments.steps), tokens)


def optimizer(arguments, shape):
    """AdamW over that many numbers, and the same after a penalty; in tensors small enough that malloc reuses them."""
    count = arguments.parameters // arguments.tensors
    values = [torch.rand(count, requires_grad=True) for _ in range(arguments.tensors)]
    gradients = [1e-3 * torch.rand(count) for _ in values]
    fisher, anchor = [torch.rand(count) for _ in values], [v.detach().clone() for v in values]
    adamw = torch.optim.AdamW(values, lr=1e-4, betas=common.BETAS, eps=common.EPSILON,
                              weight_decay=common.WEIGHT_DECAY, fused=True)
    for value, gradient in zip(values, gradients):
        value.grad = gradient.clone()

    @torch.no_grad()
    def as_gradient():
        torch._foreach_addcmul_([v.grad for v in values], fisher, torch._foreach_sub(values, anchor))

    def as_loss():
        return 0.5 * sum((f * (v - a) ** 2).sum() for f, v, a in zip(fisher, values, anchor))

    term = torch.compile(as_loss) if arguments.compile else as_loss

    def penalized():
        # Adds to the gradients that are there, as a penalty beside a loss does.
        if arguments.penalty == "gradient":
            as_gradient()
        else:
            term().backward()
        adamw.step()

    seconds = common.median_seconds(adamw.step, arguments.steps)
    with_penalty = common.median_seconds(penalized, arguments.steps)
    total = count * arguments.tensors
    common.report("optimizer", arguments, seconds, parameters=total, tensors=arguments.tensors,
                  penalty=arguments.penalty, gb_per_second=28 * total / seconds / 1e9,
                  ewc_seconds_per_step=with_penalty)


def main():
    parser = common.options(__doc__, ["attention", "head", "optimizer"])
    parser.add_argument("--documents", type=int, default=1)
    parser.add_argument("--packed", default="loop", choices=["loop", "mask"])
    parser.add_argument("--parameters", type=int, default=124_439_808, help="numbers that the optimizer moves")
    parser.add_argument("--tensors", type=int, default=148, help="tensors that they are in; GPT-2 has 148")
    parser.add_argument("--penalty", default="autograd", choices=["autograd", "gradient"])
    arguments = parser.parse_args()
    common.start(arguments)
    globals()[arguments.task](arguments, common.sizes(arguments))


main()
