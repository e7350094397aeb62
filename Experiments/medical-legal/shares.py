#!/usr/bin/env python3
"""comparison.json as a table: what each stack learned and what it kept, against naive. Standard library only.

  shares.py [FILE [FILE_OF_NAIVE]]

plasticity  bits per byte that a stage gains on its own domain from where it begins, as results.json has it
level       bits per byte that a domain has gained after its own stage, from where the base stood
"""
import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
STAGES = ["medical", "legal", "scientific"]


def level(matrix):
    """Mean over stages of base − after its own stage."""
    rows = {row["after"]: {key: entry["value"] for key, entry in row["values"].items()} for row in matrix}
    return statistics.mean(rows["base"][f"{s}.bits_per_byte"] - rows[s][f"{s}.bits_per_byte"] for s in STAGES)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else HERE / "comparison.json"
    variants = json.loads(pathlib.Path(path).read_text())["variants"]
    naive = json.loads(pathlib.Path(sys.argv[2]).read_text())["variants"]["naive"] if len(sys.argv) > 2 else variants["naive"]
    print("| stack | plasticity share | level share | forgetting avoided |")
    print("|---|---|---|---|")
    for name, variant in variants.items():
        summary = variant["summary"]
        shares = (
            summary["plasticity"] / naive["summary"]["plasticity"], level(variant["matrix"]) / level(naive["matrix"]),
            1 - summary["forgetting"] / naive["summary"]["forgetting"])
        print("| " + " | ".join([name, *(f"{100 * share:.0f} %" for share in shares)]) + " |")


if __name__ == "__main__":
    main()
