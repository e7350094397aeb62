#!/usr/bin/env bash
# How cost grows with length, size, probes, pasts and threads:  growth.sh [OPTION]... [PART]...
#
#   parts: length size probes pasts threads
#   --repeats N   readings of each point (5)       --out FOLDER   the sitting's folder (runs/benchmarks/DATE)
#   --threads N   where they are not the point (2) --again        take the named parts anew
#   --retain PATH the executable (.build/release/retain)
#   --smoke       one step of tiny shapes: whether the scripts work; the figures mean nothing
#
# PYTHON names any Python 3 (python3). Writes growth.json (every reading), growth.md, and an SVG a part.
source "$(dirname "${BASH_SOURCE[0]}")/sitting.sh"
options growth "$@"

# 2048 tokens a step, in sequences of one length.
part_length() {
  local length
  for length in 128 256 512 1024 2048; do
    reading length "$length" "training" "$1" \
      bench train --model llama-42m --batch $((2048 / length)) --seq "$length" --steps 2
    reading length "$length" "Fisher" "$1" \
      bench fisher --model llama-42m --batch $((2048 / length)) --seq "$length" --steps 2
  done
}

# Llama shapes, vocabulary 32 000; parameters in millions.
part_size() {
  local name shape
  while read -r name shape; do
    reading size "$name" "training" "$1" bench train --model llama-42m --shape "$shape" --batch 4 --seq 256 --steps 2
  done <<'SHAPES'
5 hidden=128,inner=352,layers=4,heads=4
15 hidden=288,inner=768,layers=6,heads=6
42 hidden=512,inner=1376,layers=8,heads=8
110 hidden=768,inner=2048,layers=12,heads=12
209 hidden=1024,inner=2736,layers=14,heads=16
348 hidden=1024,inner=2736,layers=25,heads=16
SHAPES
}

# The embedded base model asked the same text under more and more names.
part_probes() {
  local count index text=$root/Experiments/demo/data/general/test.jsonl
  local counts="1 2 4 8 16"
  [[ $smoke = no ]] || counts="1 2"
  for count in $counts; do
    local probes=()
    for ((index = 1; index <= count; index++)); do probes+=(--probe "probe$index=$text"); done
    reading probes "$count" "eval" "$1" "$PYTHON" "$here/readings.py" - timed \
      "$RETAIN" eval "$root/Checkpoints/base-en.h5" "${probes[@]}" --threads "$threads" --json
  done
}

# EWC steps in turn with plain ones, 1024 tokens a step, after one past and after ten.
part_pasts() {
  local variant pasts
  for pasts in 1 2 5 10; do
    for variant in online separate; do
      reading pasts "$pasts" "$variant" "$1" bench ewc --model stories15m --batch 4 --seq 256 --steps 9 \
        --pasts "$pasts" --variant "$variant"
    done
  done
}

part_threads() {
  local threads most=${MOST_THREADS:-2}
  for ((threads = 1; threads <= most; threads *= 2)); do
    reading threads "$threads" "training" "$1" bench train --model stories15m --batch 16 --seq 256 --steps 2
    reading threads "$threads" "Fisher" "$1" bench fisher --model stories15m --batch 16 --seq 256 --steps 2
    reading threads "$threads" "optimizer" "$1" bench optimizer --model gpt2 --steps 3
  done
}

run_parts length size probes pasts threads
"$PYTHON" "$here/tables.py" growth "$sitting" >"$folder/growth.md"
cat "$folder/growth.md"
