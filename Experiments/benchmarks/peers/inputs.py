"""Writes what both engines start from: a model's random weights as a Hugging Face folder, and rows of ids.

Each id mostly follows from the one before it, so that there is something to learn in a few steps.

  inputs.py --model stories15m --batch 4 --seq 64 --batches 4 --out FOLDER
"""
import json
import os
import random

import common


def main():
    parser = common.options(__doc__)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    common.start(arguments)
    network = common.model(arguments)
    network.save_pretrained(arguments.out)
    vocabulary = network.config.vocab_size
    draw = random.Random(17)
    rows = []
    for _ in range(arguments.batches * arguments.batch):
        row = [draw.randrange(vocabulary)]
        while len(row) <= arguments.seq:
            follows = draw.random() < 0.8
            row.append((31 * row[-1] + 7) % min(vocabulary, 997) if follows else draw.randrange(vocabulary))
        rows.append(row)
    with open(os.path.join(arguments.out, "tokens.json"), "w") as file:
        json.dump(rows, file)


main()
