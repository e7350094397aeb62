# Writes Tests/Fixtures/curvature/mlp.json: a tiny ReLU classifier with what BackPACK finds for its Kronecker factors,
# its diagonal Fisher and its squared gradients, in double precision. They are the oracle for Sources/Curvature.
#
#   pip install torch backpack-for-pytorch
#   python Tests/Fixtures/scripts/curvature_fixtures.py
#
# Rows stand in sequences of several positions that do not mix, so per-sequence and per-position squares differ while
# the expected Fisher of both is the same. Every number is seeded; inputs and weights are float32 numbers.
#
# BackPACK's quantities carry the reduction of the loss. Second-order ones are taken of the mean over all rows, which is
# Retain's division by scored tokens; first-order ones of the sum, which Retain divides by scored tokens afterwards.

import importlib.metadata
import json
import pathlib
import warnings

import torch
from backpack import backpack, extend
from backpack.custom_module.permute import Permute
from backpack.extensions import KFAC, KFLR, BatchGrad, DiagGGNExact, SumGradSquared

PATH = pathlib.Path(__file__).resolve().parent.parent / "curvature" / "mlp.json"
INPUTS, HIDDEN, CLASSES = 4, 5, 3
LENGTHS = (3, 3, 3, 2, 2)
# Sequences of each batch whose mean gradient is squared.
BATCHES = ((0, 1), (2, 3), (4,))
DRAWS = 2
SEED = 8
NAMES = {
    "0.weight": "layers.0.weight", "0.bias": "layers.0.bias", "2.weight": "heads.0.weight", "2.bias": "heads.0.bias"}


def network(weights, *, sequences=False):
    """The same network for rows [N, I], or for sequences [N, T, I] whose classes the loss wants in front of positions."""
    layers = [torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES)]
    if sequences:
        layers.append(Permute(0, 2, 1))
    model = extend(torch.nn.Sequential(*layers).double())
    model.load_state_dict(weights)
    return model


def run(weights, features, labels, reduction, *extensions, sequences=False):
    """One backward pass; the parameters under Retain's names, with what the extensions left on them, and the logits."""
    model = network(weights, sequences=sequences)
    loss = extend(torch.nn.CrossEntropyLoss(reduction=reduction))
    logits = model(features)
    # What BackPACK draws can be drawn once more.
    torch.manual_seed(SEED)
    with backpack(*extensions):
        loss(logits, labels).backward()
    return {NAMES[name]: parameter for name, parameter in model.named_parameters()}, logits.detach()


def rounded(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def factors(parameters, field):
    """(output, input) of each weight: BackPACK's first factor is the output gradients', its second the inputs'."""
    return {
        name: {"output": rounded(getattr(p, field)[0]), "input": rounded(getattr(p, field)[1])}
        for name, p in parameters.items() if name.endswith("weight")}


def every(parameters, value):
    return {name: rounded(value(parameter)) for name, parameter in parameters.items()}


def main():
    torch.set_num_threads(1)
    # BackPACK's hooks are meant to fire where inputs need no gradient.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator).double()

    weights = {
        "0.weight": normal(HIDDEN, INPUTS), "0.bias": normal(HIDDEN), "2.weight": normal(CLASSES, HIDDEN),
        "2.bias": normal(CLASSES)}
    rows = sum(LENGTHS)
    starts = [sum(LENGTHS[:index]) for index in range(len(LENGTHS) + 1)]
    features, labels = normal(rows, INPUTS), torch.randint(0, CLASSES, (rows,), generator=generator)
    before = features @ weights["0.weight"].T + weights["0.bias"]
    # No unit changes sides in float32.
    assert before.abs().min() > 1e-3 and 0.2 < (before > 0).double().mean() < 0.8

    # Expected labels, mean over rows.
    expected, _ = run(weights, features, labels, "mean", KFLR(), DiagGGNExact())
    for p in expected.values():
        if p.dim() == 1:
            torch.testing.assert_close(p.diag_ggn_exact, p.kflr[0].diagonal())

    # Labels drawn from the model, mean over rows and draws.
    sampled, logits = run(weights, features, labels, "mean", KFAC(mc_samples=DRAWS))
    torch.manual_seed(SEED)
    probabilities = torch.softmax(logits, dim=1)
    drawn = torch.distributions.Categorical(probabilities).sample((DRAWS,))
    residuals = (probabilities - torch.nn.functional.one_hot(drawn, CLASSES)).flatten(0, 1)
    torch.testing.assert_close(sampled["heads.0.weight"].kfac[0], residuals.T @ residuals / (rows * DRAWS))

    # Observed labels, sum over rows: every row a sample, then every sequence one, those of a length side by side.
    positions, _ = run(weights, features, labels, "sum", SumGradSquared(), BatchGrad())
    sequences = {name: torch.zeros_like(p) for name, p in positions.items()}
    for length in sorted(set(LENGTHS)):
        places = torch.tensor([
            list(range(starts[index], starts[index] + length)) for index, l in enumerate(LENGTHS) if l == length])
        part, _ = run(weights, features[places], labels[places], "sum", SumGradSquared(), sequences=True)
        for name, p in part.items():
            sequences[name] += p.sum_grad_squared

    def squared_batch_means(p):
        total = torch.zeros_like(p)
        for batch in BATCHES:
            places = [place for index in batch for place in range(starts[index], starts[index + 1])]
            total += p.grad_batch[places].mean(0) ** 2
        return total / len(BATCHES)

    versions = ", ".join(
        f"{name} {importlib.metadata.version(name).split('+')[0]}" for name in ("torch", "backpack-for-pytorch"))
    fixture = {
        "made_by": f"{versions}, float64",
        "inputs": INPUTS, "hidden": HIDDEN, "classes": CLASSES,
        "lengths": LENGTHS,
        "features": rounded(features),
        "labels": labels.tolist(),
        "parameters": {NAMES[name]: rounded(value) for name, value in weights.items()},
        "expected_diagonal_of_mean": every(expected, lambda p: p.diag_ggn_exact),
        "expected_factors_of_mean": factors(expected, "kflr"),
        "drawn_labels": drawn.tolist(),
        "drawn_factors_of_mean": factors(sampled, "kfac"),
        "squares_per_position_sum": every(positions, lambda p: p.sum_grad_squared),
        "squares_per_sequence_sum": {name: rounded(value) for name, value in sequences.items()},
        "sequences_of_batches": BATCHES,
        "squared_batch_means_mean": every(positions, squared_batch_means),
    }
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(fixture, separators=(",", ":")).replace(',"', ',\n"') + "\n")
    print(f"{PATH.name}: {PATH.stat().st_size} bytes, {versions}")


if __name__ == "__main__":
    main()
