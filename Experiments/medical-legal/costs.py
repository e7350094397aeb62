#!/usr/bin/env python3
"""What every stack of guards.yaml costs beside naive fine-tuning: time of its steps, time at stage ends, memory.

  costs.py [--retain PATH] [--tokens N] [--threads N] [STACK ...]

Each stack runs in a process of its own, N tokens a stage, after a naive run of the same: the machine should have nothing
else to do. RETAIN_DATA as for the experiment itself. Standard library only.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def parts(text):
    """The experiment without its comparison, and the text of every stack."""
    before, _, rest = text.partition("\ncompare:\n")
    block, after = re.match(r"((?: [^\n]*\n)*)(.*)", rest, re.S).groups()
    stacks = {}
    for line in block.splitlines():
        if named := re.match(r"  ([\w-]+): (.*)", line):
            name = named[1]
            stacks[name] = named[2]
        else:
            stacks[name] += " " + line.strip()
    return before + "\n" + after, stacks


def run(retain, text, arguments, folder):
    file = pathlib.Path(folder, "experiment.yaml")
    file.write_text(text)
    overrides = [*arguments, f"output_dir={folder}/out", f"base_model={ROOT}/Checkpoints/base-en.h5"]
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    subprocess.run(
        [retain, "run", str(file), "--fresh", "--quiet", *overrides], check=True, env=environment,
        stdout=subprocess.DEVNULL)
    results = json.loads(pathlib.Path(folder, "out/results.json").read_text())
    cost, stages = results["cost"], len(results["stages"])
    steps = cost["train_tokens"] / cost["tokens_per_second"]
    return {"steps": steps, "ends": (cost["wall_seconds"] - steps) / stages, "memory": cost["peak_rss_bytes"] / 2**20}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--retain", default=str(ROOT / ".build/release/retain"))
    parser.add_argument("--tokens", default="20000")
    parser.add_argument("--threads", default="2")
    parser.add_argument("stacks", nargs="*")
    given = parser.parse_args()
    text, stacks = parts((HERE / "guards.yaml").read_text())
    unknown = set(given.stacks) - set(stacks)
    if unknown:
        parser.error(f"guards.yaml has no {', '.join(sorted(unknown))}; it has {', '.join(stacks)}")
    arguments = [f"training.max_tokens={given.tokens}", f"threads={given.threads}"]
    # Probes cost the same under every stack.
    text = re.sub(r"limit: \d+", "limit: 4", text.replace("seeds: [17, 18, 19]", "seed: 17"))
    print("| stack | steps, times naive's | more at every stage's end, s | more memory, MiB |", flush=True)
    print("|---|---|---|---|", flush=True)
    for name in given.stacks or stacks:
        with tempfile.TemporaryDirectory() as folder:
            naive = run(given.retain, text, arguments, folder)
        with tempfile.TemporaryDirectory() as folder:
            own = run(given.retain, text.replace("methods: []", f"methods: {stacks[name]}"), arguments, folder)
        print(
            f"| {name} | {own['steps'] / naive['steps']:.2f} | {own['ends'] - naive['ends']:.1f} "
            f"| {own['memory'] - naive['memory']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
