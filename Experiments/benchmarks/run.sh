#!/usr/bin/env bash
# The throughput figures of this machine: training, EWC and Fisher on two shapes, as JSON lines.
#   run.sh [RETAIN]
set -euo pipefail
unset OPENBLAS_CORETYPE
retain=${1:-.build/release/retain}
for task in train ewc fisher; do
  "$retain" bench "$task" --model stories15m --batch 16 --seq 256 --steps 5 --json
done
"$retain" bench train --model stories15m --batch 16 --seq 256 --steps 5 --precision bf16 --json
"$retain" bench train --model gpt2 --batch 4 --seq 256 --steps 3 --json
"$retain" bench tokenize --json
