#!/usr/bin/env python3
"""Every guard, killed within a stage, at its end and within a stage of bf16 products: does it end with the same bits?

  stacks.py [RETAIN [NAME ...]]

Each stack of methods runs through chain.yaml once in peace and once under fire: killed with SIGKILL at three steps and
started again, on one thread and on several in turn. Runs are in a temporary folder. Standard library only.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Stages have 14 steps and a checkpoint every 6.
KILLS = ["medical step 9/", "legal step 9/", "legal step 14/"]
KFAC = "fisher: { structure: kronecker, examples: 32 }"
STACKS = {
    "ewc": "{ ewc: { lambda: 10, variant: separate, fisher: { examples: 32 } } }",
    "ewc-bf16": "{ ewc: { lambda: 10, fisher: { examples: 32, storage: bf16 } } }",
    "kfac": "{ ewc: { lambda: 10, %s } }" % KFAC,
    "kfac-separate": "{ ewc: { lambda: 10, variant: separate, %s } }" % KFAC,
    "kfac-bf16": "{ ewc: { lambda: 10, fisher: { structure: kronecker, examples: 32, storage: bf16 } } }",
    "kfac-coupled-self": "{ self_rehearsal: { ratio: 0.25, budget_tokens: 8000, learn: distill } }, "
                         "{ ewc: { lambda: 10, form: coupled, %s } }" % KFAC,
    "l2sp": "{ l2sp: { lambda: 0.02, anneal: sigmoid } }",
    "si": "{ si: { c: 1, xi: 0.0001 } }",
    "mas": "{ mas: { lambda: 0.001, examples: 32 } }",
    "rwalk": "{ rwalk: { lambda: 60, examples: 32 } }",
    "lwf": "{ lwf: { alpha: 1 } }",
    "lwf-cached": "{ lwf: { alpha: 1, teacher: cached } }",
    "replay": "{ replay: { ratio: 0.2, budget_tokens: 20000 } }",
    "mir": "{ replay: { ratio: 0.25, budget_tokens: 20000, retrieval: interfered } }",
    "der": "{ der: { ratio: 0.2, budget_tokens: 20000, insert: step } }",
    "gem": "{ gem: { budget_tokens: 4000 } }",
    "agem": "{ agem: { budget_tokens: 20000, sample_tokens: 512 } }",
    "ogd": "{ ogd: { examples: 8 } }",
    "freeze": "{ fisher_freeze: { mass: 0.6, examples: 32 } }",
    "five": "{ replay: { ratio: 0.2, budget_tokens: 20000 } }, { lwf: { alpha: 0.5 } }, { si: { c: 1 } }, "
            "{ ewc: { lambda: 10, %s } }, { wise_ft: { alpha: 0.8 } }" % KFAC,
}


def command(retain, methods, folder):
    return [retain, "run", str(HERE / "chain.yaml"), f"methods=[ {methods} ]", "compare={}", "training.max_steps=14",
            f"output_dir={folder}"]


def finish(arguments, log):
    """Runs to the end; the digest of the parameters that are left, or what went wrong."""
    code = subprocess.run(arguments, stdout=log, stderr=subprocess.STDOUT).returncode
    if code != 0:
        return f"exit {code}"
    folder = arguments[-1].split("=", 1)[1]
    return json.loads((pathlib.Path(folder) / "results.json").read_text())["final"]["parameters_sha256"]


def kill_at(arguments, mark, log):
    """Starts a run and kills it when its log shows a step."""
    process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)
    while process.poll() is None and mark not in pathlib.Path(log.name).read_text():
        time.sleep(0.01)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def main():
    os.environ.pop("OPENBLAS_CORETYPE", None)
    retain = sys.argv[1] if len(sys.argv) > 1 else str(HERE.parent.parent / ".build/release/retain")
    wanted = sys.argv[2:] or list(STACKS)
    failed = []
    for name in wanted:
        with tempfile.TemporaryDirectory() as work:
            with open(f"{work}/whole.log", "w") as log:
                whole = finish(command(retain, STACKS[name], f"{work}/whole"), log)
            cut = command(retain, STACKS[name], f"{work}/cut")
            with open(f"{work}/cut.log", "w") as log:
                for number, mark in enumerate(KILLS):
                    # The folder's argument stays the last one.
                    kill_at(cut[:-1] + ["threads=1"] * (number % 2) + cut[-1:], mark, log)
                end = finish(cut, log)
            resumed = pathlib.Path(f"{work}/cut.log").read_text().count("resuming from")
        same = whole == end and not whole.startswith("exit") and resumed == len(KILLS)
        print(f"{name}: {'the same' if same else 'DIFFERENT'}, {resumed} restarts, {whole[:16]} {end[:16]}", flush=True)
        if not same:
            failed.append(name)
    if failed:
        sys.exit(f"stacks: {', '.join(failed)}")


if __name__ == "__main__":
    main()
