#!/usr/bin/env python3
"""Published continual-learning tables, run again with Retain.

  reproduce.py [--row ROW ...] [--method WORD ...] [--seeds N] [--jobs N] [--list] [--render]

For every row, method and seed an experiment file is written under runs/published/, run by the `retain` binary with
one thread and kept: a run that is finished and whose file has not changed is not repeated, one that was interrupted
continues. What is known so far is gathered into results.json and README.md beside this script. Standard library only.
"""
import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

import protocols

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# A strength is chosen on so many seeds, then the rest of the seeds run with the chosen one.
CHOOSING_SEEDS = 2


# MARK: The binary


class Binary:
    """What the installed retain knows. Answers are asked for once."""

    def __init__(self, path):
        self.path = str(path)
        listing = json.loads(self.output(["list", "methods", "--json"]))
        self.methods = {method["name"] for method in listing["methods"]}
        self.keys = {}

    def output(self, arguments):
        return subprocess.run([self.path, *arguments], capture_output=True, text=True, check=True).stdout

    def knows(self, key):
        """Whether the manual has a key of the experiment file."""
        if key not in self.keys:
            found = subprocess.run([self.path, "explain", key], capture_output=True)
            self.keys[key] = found.returncode == 0
        return self.keys[key]

    def refusal(self, file):
        """The first line of what validate has against a file; None where it accepts it."""
        found = subprocess.run(
            [self.path, "validate", str(file)], capture_output=True, text=True, env=environment)
        if found.returncode == 0:
            return None
        lines = (found.stderr + found.stdout).strip().splitlines()
        return lines[0].split("error: ", 1)[-1] if lines else f"exit {found.returncode}"


environment = dict(os.environ)


# MARK: Experiment files


def yaml(value):
    """Flow YAML, which is what a reader of one line wants."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key}: {yaml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml(item) for item in value) + "]"
    if isinstance(value, float):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    # A brace ends a plain scalar in flow style.
    return json.dumps(value) if isinstance(value, str) and "{" in value else str(value)


def experiment(protocol, methods, seed, binary):
    """The text of one run, and how it departs from the published protocol on this binary."""
    departures = list(protocol.departures)
    training = {
        "sequence_len": 2, "sample_packing": False, "lr_scheduler": "constant", "warmup_ratio": 0,
        "weight_decay": 0, "max_grad_norm": 0, "loss_watchdog_threshold": 0, **protocol.training,
    }
    # Plain gradient descent has no state.
    if protocol.keeps_optimizer and training["optimizer"] == "adamw":
        if binary.knows("training.optimizer_state"):
            training["optimizer_state"] = "keep"
        else:
            departures.append("the optimizer is reset at every task (this binary has no training.optimizer_state)")
    tasks = protocol.tasks(seed)
    model = {"architecture": "mlp", "hidden_sizes": protocol.hidden, "heads": protocol.heads}
    if protocol.initialization:
        model["initialization"] = protocol.initialization

    def files(part):
        return {what: f"${{RETAIN_MNIST}}/{part}-{what}-{kind}-ubyte.gz"
                for what, kind in (("images", "idx3"), ("labels", "idx1"))}

    first = {}
    # Where half of every batch is old, the first task still has whole batches.
    if protocol.halves_batch and any("replay" in method for method in methods):
        size = training["micro_batch_size"]
        training["micro_batch_size"] = size // 2
        first["training"] = {"micro_batch_size": size}
    lines = [
        "schema: 1",
        f"name: {protocol.name}",
        f"base_model: {yaml(model)}",
        "output_dir: out",
        "threads: 1",
        f"seed: {seed}",
        f"training: {yaml(training)}",
        f"methods: {yaml(methods)}",
        "stages:",
    ]
    limit = {"limit": protocol.training_images} if protocol.training_images else {}
    for index, task in enumerate(tasks):
        stage = {"name": f"task-{index + 1}", "datasets": [
            {"type": "idx_images", **files("train"), **protocol.images, **limit, **task}]}
        if index == 0:
            stage.update(first)
        lines.append(f"  - {yaml(stage)}")
    lines.append("probes:")
    for index, task in enumerate(tasks):
        name = f"task-{index + 1}"
        probe = {"name": name, "type": "class", **files("t10k"), **protocol.images, **task, "home": name}
        lines.append(f"  - {yaml(probe)}")
    lines += [
        "evaluate: { at: [stage_end], eval_steps: 0 }",
        "checkpoint: { save_steps: 1000, save_total_limit: 1 }",
        "logging: { logging_steps: 200 }",
    ]
    return "\n".join(lines) + "\n", departures


# MARK: Runs


def accuracy(results):
    """Mean over all tasks' test accuracy after the last stage, in per cent."""
    last = results["matrix"][-1]
    values = [entry["value"] for key, entry in last["values"].items() if key.endswith(".acc")]
    return 100 * sum(values) / len(values)


def plain(word):
    return re.sub(r"[^A-Za-z0-9.+]+", "-", word).strip("-").lower()


class Run:
    def __init__(self, protocol, entry, strength, seed, binary):
        self.seed = seed
        self.binary = binary
        self.folder = RUNS / plain(protocol.name) / plain(entry.method) / plain(strength.name) / f"seed-{seed}"
        self.title = f"{protocol.name} {entry.method} {strength.name} seed {seed}"
        self.text, self.departures = experiment(protocol, strength.methods, seed, binary)
        self.departures += entry.departures

    @property
    def record(self):
        """The finished run of this very file; None where there is none."""
        try:
            if (self.folder / "experiment.yaml").read_text() != self.text:
                return None
            return json.loads((self.folder / "finished.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def prepare(self):
        file = self.folder / "experiment.yaml"
        if not file.exists() or file.read_text() != self.text:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            file.write_text(self.text)
        return file

    def execute(self):
        """Runs to the end and keeps results.json; checkpoints go, they are many."""
        file = self.prepare()
        started = time.monotonic()
        with open(self.folder / "log.txt", "a") as log:
            code = subprocess.run(
                [self.binary.path, "run", str(file)], stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
        if code != 0:
            tail = (self.folder / "log.txt").read_text().strip().splitlines()[-1:] or [""]
            return f"{self.title}: exit {code}: {tail[0]}"
        results = json.loads((self.folder / "out/results.json").read_text())
        record = {
            "accuracy": accuracy(results), "seconds": results["cost"]["wall_seconds"],
            "elapsed": time.monotonic() - started, "version": results["environment"].get("version"),
        }
        whole = self.folder / "finished.tmp"
        whole.write_text(json.dumps(record))
        whole.rename(self.folder / "finished.json")
        shutil.rmtree(self.folder / "out/checkpoints", ignore_errors=True)
        return f"{self.title}: {record['accuracy']:.2f} %, {record['elapsed']:.0f} s"


def execute(runs, jobs):
    """Runs what is not finished, several at a time."""
    waiting = [run for run in runs if run.record is None]
    failures = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for line in pool.map(Run.execute, waiting):
            print(line, flush=True)
            if ": exit " in line:
                failures.append(line)
    return failures


def mean_of(runs):
    """Over the finished ones; nothing where one is missing."""
    values = [run.record["accuracy"] for run in runs if run.record]
    return statistics.mean(values) if len(values) == len(runs) and values else None


def runs_of(protocol, entry, strength, seeds, binary):
    return [Run(protocol, entry, strength, seed, binary) for seed in seeds]


def unknown(entry, binary):
    """Why this binary cannot run an entry; None where it can."""
    wanted = {name for strength in entry.strengths for method in strength.methods for name in method}
    missing = sorted(wanted - binary.methods)
    return f"this binary has no method {', '.join(missing)}" if missing else None


def reproduce(protocol, entry, seeds, jobs, binary):
    """Runs one line of a table. Returns messages about what was skipped or failed."""
    reason = unknown(entry, binary)
    if reason:
        return [f"skipped {protocol.name} {entry.method}: {reason}"]
    failures = []
    trial = runs_of(protocol, entry, entry.strengths[0], seeds[:1], binary)[0]
    if trial.record is None:
        reason = binary.refusal(trial.prepare())
        if reason:
            return [f"skipped {protocol.name} {entry.method}: {reason}"]
    choosing = seeds[:CHOOSING_SEEDS] if len(entry.strengths) > 1 else []
    if choosing:
        failures += execute(
            [run for strength in entry.strengths for run in runs_of(protocol, entry, strength, choosing, binary)], jobs)
    best = chosen(protocol, entry, seeds, binary)
    if best:
        failures += execute(runs_of(protocol, entry, best[0], seeds, binary), jobs)
    return failures


def chosen(protocol, entry, seeds, binary):
    """The strength with the best mean over the choosing seeds, and every strength's mean."""
    if len(entry.strengths) == 1:
        return entry.strengths[0], {}
    means = {}
    for strength in entry.strengths:
        mean = mean_of(runs_of(protocol, entry, strength, seeds[:CHOOSING_SEEDS], binary))
        if mean is not None:
            means[strength] = mean
    if not means:
        return None
    return max(means, key=lambda strength: means[strength]), {s.name: round(m, 3) for s, m in means.items()}


# MARK: Results


def summary(protocol, entry, binary):
    """The line of results.json; None where no run is finished."""
    if unknown(entry, binary):
        return None
    every = list(range(max(protocol.published_seeds, protocol.seeds)))
    found = chosen(protocol, entry, every, binary) or chosen(protocol, entry, every[:1], binary)
    if not found:
        return None
    strength, grid = found
    runs = [run for run in runs_of(protocol, entry, strength, every, binary) if run.record]
    if not runs:
        return None
    values = [run.record["accuracy"] for run in runs]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    result = {
        "row": protocol.row, "protocol": protocol.name, "method": entry.method, "strength": strength.name,
        "values": [round(value, 4) for value in values], "mean": statistics.mean(values),
        "stderr": deviation / math.sqrt(len(values)) if deviation is not None else None, "std": deviation,
        "seeds": [run.seed for run in runs],
        "published": {
            "mean": entry.published, "error": entry.error, "kind": protocol.error_kind,
            "seeds": protocol.published_seeds,
        },
        "grid": grid, "departures": runs[0].departures, "seconds": statistics.median(r.record["elapsed"] for r in runs),
        "command": f"make reproduce ROW={protocol.row} SEEDS={len(values)}",
    }
    result["verdict"] = verdict(result)
    return result


def verdict(result):
    published = result["published"]["mean"]
    if published is None:
        return "not published as a number"
    difference = result["mean"] - published
    if result["stderr"] is None:
        return f"one seed: {difference:+.2f}"
    if result["published"]["seeds"] == 1:
        return f"against one run: {difference:+.2f}; runs scatter by {result['std']:.2f}"
    theirs = result["published"]["error"] or 0
    # A paper that gives the scatter of its runs is held to that, one that gives the error of its mean to that.
    is_scatter = result["published"]["kind"] == "std"
    spread = max(result["std"], theirs) if is_scatter else math.hypot(result["stderr"], theirs)
    if spread == 0:
        return f"{difference:+.2f}"
    unit = f"{difference / spread:+.1f} standard {'deviations' if is_scatter else 'errors'}"
    if abs(difference) <= 2 * spread:
        return f"agrees: {difference:+.2f} ({unit})"
    return f"**differs: {difference:+.2f} ({unit})**"


def number(value, error):
    return f"{value:.2f}" + (f" ± {error:.2f}" if error is not None else "")


def table(results):
    kind = results[0]["published"]["kind"]
    word = {"stderr": "standard error", "std": "standard deviation"}.get(kind, "")
    lines = [
        f"| setting | method | ours, mean ± {word or 'standard error'} | seeds "
        f"| published{f' ± {word}' if word else ''} | seeds | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        published = result["published"]
        theirs = "–" if published["mean"] is None else number(published["mean"], published["error"])
        ours = number(result["mean"], result["std" if kind == "std" else "stderr"])
        strength = f", {result['strength']}" if result["strength"] != "as published" else ""
        lines.append(
            f"| {result['protocol']} | {result['method']}{strength} | {ours} | {len(result['values'])} | {theirs} "
            f"| {published['seeds']} | {result['verdict']} |")
    return "\n".join(lines)


def render(results):
    """README.md from README.in: a line `@table ROW` stands for that row's table and its departures."""
    def replacement(match):
        own = [result for result in results if result["row"] == match[1]]
        if not own:
            return f"Not run yet: `make reproduce ROW={match[1]}`."
        text = table(own)
        notes = list(dict.fromkeys(note for result in own for note in result["departures"]))
        if notes:
            text += "\n\nDepartures from the published protocol:\n\n" + "\n".join(f"- {note}" for note in notes)
        grids = [result for result in own if result["grid"]]
        if grids:
            text += f"\n\nMeans of the strengths that were tried, on {CHOOSING_SEEDS} seeds at most:\n\n" + "\n".join(
                f"- {result['protocol']}, {result['method']}: "
                + ", ".join(f"{name}: {mean:.2f}" for name, mean in result["grid"].items()) for result in grids)
        return text

    template = (HERE / "README.in").read_text()
    (HERE / "README.md").write_text(re.sub(r"^@table (\S+)$", replacement, template, flags=re.M))


def gather(binary):
    """results.json: what this machine's runs say, and of what was not run here what the file said before."""
    path = HERE / "results.json"
    old = json.loads(path.read_text()) if path.exists() else []
    results = []
    for protocol in protocols.ALL:
        for entry in protocol.entries:
            new = summary(protocol, entry, binary)
            before = next(
                (r for r in old if r["protocol"] == protocol.name and r["method"] == entry.method), None)
            # Fewer runs than the file knows of are another machine's beginning, not news.
            if new and (not before or len(new["values"]) >= len(before["values"])):
                results.append(new)
            elif before:
                results.append(before)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    render(results)
    return results


# MARK: The command


def fail(message):
    sys.exit(f"reproduce: {message}")


def mnist(given):
    """The folder with the four files of MNIST."""
    names = [f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    if given and all((pathlib.Path(given) / name).is_file() for name in names):
        return pathlib.Path(given).resolve()
    fail("set RETAIN_MNIST to a folder with " + ", ".join(names) + ", the files of MNIST as its makers published them"
         + (f"; {given} has not all of them" if given else ""))


def main():
    global RUNS
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--row", nargs="*", default=[], help="rows, such as 1 2; default: all that need no asking")
    parser.add_argument("--method", nargs="*", default=[], help="only methods and settings whose names contain a word")
    parser.add_argument("--seeds", type=int, help="how many seeds; default: the row's own number")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--retain", default=ROOT / ".build/release/retain", help="the binary")
    parser.add_argument("--runs", default=ROOT / "runs/published", help="where runs are kept")
    parser.add_argument("--list", action="store_true", help="list rows and methods, run nothing")
    parser.add_argument("--render", action="store_true", help="write README.md from results.json, run nothing")
    options = parser.parse_args()
    RUNS = pathlib.Path(options.runs).resolve()
    rows = list(dict.fromkeys(protocol.row for protocol in protocols.ALL))
    for row in options.row:
        if row not in rows:
            fail(f"there is no row {row}; there are {', '.join(rows)}")
    if options.list:
        for protocol in protocols.ALL:
            for entry in protocol.entries:
                print(protocol.row, protocol.name, entry.method, f"published {entry.published}", sep="\t")
        return
    if options.render:
        render(json.loads((HERE / "results.json").read_text()))
        return
    environment["RETAIN_MNIST"] = str(mnist(os.environ.get("RETAIN_MNIST")))
    if not pathlib.Path(options.retain).is_file():
        fail(f"there is no {options.retain}: make build")
    binary = Binary(options.retain)

    def is_wanted(protocol, method):
        name = f"{protocol} {method}".lower()
        return not options.method or any(word.lower() in name for word in options.method)

    messages = []
    try:
        for protocol in protocols.ALL:
            if protocol.row not in options.row and (options.row or protocol.only_when_asked):
                continue
            for entry in protocol.entries:
                if not is_wanted(protocol.name, entry.method):
                    continue
                seeds = list(range(options.seeds or protocol.seeds))
                messages += reproduce(protocol, entry, seeds, options.jobs, binary)
                gather(binary)
    finally:
        for message in messages:
            print(message)
    for result in gather(binary):
        if (not options.row or result["row"] in options.row) and is_wanted(result["protocol"], result["method"]):
            print(f"{result['protocol']}, {result['method']} ({result['strength']}): "
                  f"{number(result['mean'], result['stderr'])}, published "
                  f"{result['published']['mean']}; {result['verdict']}")
    if any(": exit " in message for message in messages):
        sys.exit(1)


if __name__ == "__main__":
    main()
