"""A training step in PyTorch, and the same with an EWC penalty in turn with plain steps.

  step.py train --model gpt2 --batch 4 --seq 256 --precision bf16 --compile
  step.py ewc --model stories15m --batch 4 --seq 256 --penalty autograd|gradient
"""
import torch

import common


def main():
    parser = common.options(__doc__, ["train", "ewc"])
    parser.add_argument("--penalty", default="autograd", choices=["autograd", "gradient"],
                        help="autograd: a term of the loss; gradient: F(θ − θ*) added to the gradients")
    arguments = parser.parse_args()
    common.start(arguments)
    network = common.model(arguments)
    parameters = list(network.parameters())
    loss_of = common.loss_function(network, arguments)
    batches = common.batches(arguments, network.config.vocab_size)
    optimizer = common.adamw(parameters, arguments.learning_rate)
    losses = []

    def plain():
        train(None)

    def train(penalty):
        loss = loss_of(*batches[len(losses) % len(batches)])
        (loss if penalty is None or arguments.penalty == "gradient" else loss + penalty()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, common.MAXIMUM_NORM)
        if penalty is not None and arguments.penalty == "gradient":
            penalty()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    facts = dict(parameters=sum(p.numel() for p in parameters), learning_rate=arguments.learning_rate)
    tokens = arguments.batch * arguments.seq
    if arguments.task == "train":
        seconds = common.median_seconds(plain, arguments.steps)
        common.report("train", arguments, seconds, tokens, **facts, loss=losses[-1], losses=losses)
        return
    anchor = [p.detach().clone() for p in parameters]
    fisher = [torch.rand_like(p) for p in parameters]

    def as_loss():
        return 0.5 * sum((f * (p - a) ** 2).sum() for f, p, a in zip(fisher, parameters, anchor))

    @torch.no_grad()
    def as_gradient():
        gradients = [p.grad for p in parameters]
        torch._foreach_addcmul_(gradients, fisher, torch._foreach_sub(parameters, anchor))

    penalty = as_loss if arguments.penalty == "autograd" else as_gradient
    if arguments.compile and arguments.penalty == "autograd":
        penalty = torch.compile(as_loss)
    ordinary, seconds, ratio = common.medians_in_turn(plain, lambda: train(penalty), arguments.steps)
    common.report("ewc", arguments, seconds, tokens, **facts, penalty=arguments.penalty, loss=losses[-1],
                  plain_seconds_per_step=ordinary, ratio_to_plain=ratio)


main()
