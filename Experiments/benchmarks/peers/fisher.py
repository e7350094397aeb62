"""The exact per-sequence diagonal of the empirical Fisher in PyTorch: by a loop of single sequences, or by vmap.

F = Σ_s g_s² / tokens, g_s the gradient of the summed loss of sequence s, as `retain bench fisher`.

  fisher.py --how loop|vmap --model stories15m --batch 8 --seq 256
"""
import torch
import torch.nn.functional as functional

import common


def main():
    parser = common.options(__doc__)
    parser.add_argument("--how", default="loop", choices=["loop", "vmap"])
    arguments = parser.parse_args()
    if arguments.how == "vmap" and (arguments.precision == "bf16" or arguments.compile):
        parser.error("vmap runs in fp32, uncompiled")
    common.start(arguments)
    network = common.model(arguments)
    parameters = list(network.parameters())
    inputs, targets = common.batches(arguments, network.config.vocab_size)[0]
    loss_of = common.loss_function(network, arguments)
    length = arguments.seq
    tokens = arguments.batch * length
    squares = [torch.zeros_like(p) for p in parameters]

    def loop():
        torch._foreach_zero_(squares)
        for row in range(arguments.batch):
            (length * loss_of(inputs[row:row + 1], targets[row:row + 1])).backward()
            gradients = [p.grad for p in parameters]
            torch._foreach_addcmul_(squares, gradients, gradients)
            network.zero_grad(set_to_none=True)
        torch._foreach_div_(squares, tokens)

    def vmap():
        for total, gradient in zip(squares, per_sequence(dict(network.named_parameters()), inputs, targets).values()):
            total.copy_(gradient.detach().square_().sum(0).div_(tokens))

    def loss_of_one(values, ids, wanted):
        logits = torch.func.functional_call(
            network, values, (), dict(input_ids=ids[None]), tie_weights=True).logits
        return functional.cross_entropy(logits[0].float(), wanted, reduction="sum")

    per_sequence = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, 0, 0))
    if arguments.how == "vmap":
        for p in parameters:
            p.requires_grad_(False)
    seconds = common.median_seconds(loop if arguments.how == "loop" else vmap, arguments.steps)
    trace = sum(s.double().sum().item() for s in squares)
    common.report("fisher", arguments, seconds, tokens, how=arguments.how,
                  parameters=sum(p.numel() for p in parameters), trace=trace)


main()
