#!/usr/bin/env bash
# Retain beside PyTorch on this machine, in turn, in one sitting:  compare.sh [OPTION]... [PART]...
#
#   parts: machine agree train15 train124 ewc15 ewc124 fisher methods head attention packed optimizer memory
#   --repeats N   readings of each side (5)        --out FOLDER   the sitting's folder (runs/benchmarks/DATE)
#   --threads N   of both sides (2)                --again        take the named parts anew
#   --retain PATH the executable (.build/release/retain)  --own   Retain alone
#   --smoke       one step of tiny shapes: whether the scripts work; the figures mean nothing
#
# PYTHON names a Python with torch, transformers and numpy. Writes compare.json (every reading) and compare.md.
# Readings that the sitting already has are not taken again, so that an interrupted one continues.
source "$(dirname "${BASH_SOURCE[0]}")/sitting.sh"
options compare "$@"
[[ $own = yes ]] || peers_present

# in_turn PART CASE REPEAT PRECISIONS TASK ARGUMENTS...: Retain, PyTorch eager, PyTorch compiled, in each precision
in_turn() {
  local part=$1 case=$2 repeat=$3 script=$4 task=$5 precision
  shift 5
  for precision in fp32 bf16; do
    if [[ $precision = fp32 ]]; then
      reading "$part" "$case" "retain fp32" "$repeat" bench "$task" "$@"
    elif retain_has_bf16 "$task"; then
      reading "$part" "$case" "retain bf16" "$repeat" bench "$task" "$@" --precision bf16
    fi
    reading "$part" "$case" "torch $precision" "$repeat" peer "$script" "$task" "$@" --precision "$precision"
    reading "$part" "$case" "torch compile $precision" "$repeat" \
      peer "$script" "$task" "$@" --precision "$precision" --compile
  done
}

part_machine() { reading machine "124M" "retain fp32" "$1" bench optimizer --model gpt2 --steps 5; }

# The same weights and ids on both sides, 20 steps; speed counts only where the losses agree to 1 %.
part_agree() {
  [[ $1 = 1 ]] || return 0
  local model batch rate inputs
  for model in stories15m gpt2; do
    if [[ $model = gpt2 ]]; then batch=2 rate=3e-4; else batch=4 rate=1e-3; fi
    if readings complete agree "$model" "retain fp32" "torch fp32" "torch bf16" "retain fisher" "torch fisher"; then
      continue
    fi
    inputs=$(mktemp -d)
    peer inputs --model "$model" --batch "$batch" --seq 128 --out "$inputs/$model" >/dev/null
    local given=(--weights "$inputs/$model" --tokens "$inputs/$model/tokens.json" --batch "$batch" --seq 128)
    local training=("${given[@]}" --steps 18 --learning-rate "$rate")
    reading agree "$model" "retain fp32" 1 bench train "${training[@]}"
    if retain_has_bf16 train; then
      reading agree "$model" "retain bf16" 1 bench train "${training[@]}" --precision bf16
    fi
    reading agree "$model" "torch fp32" 1 peer step train "${training[@]}"
    reading agree "$model" "torch bf16" 1 peer step train "${training[@]}" --precision bf16
    reading agree "$model" "retain fisher" 1 bench fisher "${given[@]}" --steps 1
    reading agree "$model" "torch fisher" 1 peer fisher --how loop "${given[@]}" --steps 1
    rm -rf "$inputs"
  done
}

part_train15() { in_turn train15 "B16 T256" "$1" step train --model stories15m --batch 16 --seq 256 --steps 5; }
part_train124() { in_turn train124 "B4 T256" "$1" step train --model gpt2 --batch 4 --seq 256 --steps 3; }

# Steps with and without the penalty are taken in turn inside each process; 1024 tokens a step.
ewc() {
  local part=$1 repeat=$2
  shift 2
  in_turn "$part" "B4 T256" "$repeat" step ewc --batch 4 --seq 256 "$@"
  reading "$part" "B4 T256" "torch fp32, gradient" "$repeat" \
    peer step ewc --batch 4 --seq 256 "$@" --penalty gradient
}
part_ewc15() { ewc ewc15 "$1" --model stories15m --steps 9; }
part_ewc124() { ewc ewc124 "$1" --model gpt2 --steps 5; }

# 2048 tokens a step at every length; own training steps are taken in turn with the passes.
part_fisher() {
  local length batch precision
  for length in 128 256 512; do
    batch=$((2048 / length))
    local shape=(--model stories15m --batch "$batch" --seq "$length" --steps 3)
    local case="B$batch T$length"
    for precision in fp32 bf16; do
      [[ $precision = fp32 ]] || retain_has_bf16 fisher || continue
      local own=("${shape[@]}" --precision "$precision" --beside-training)
      reading fisher "$case" "retain $precision" "$1" bench fisher "${own[@]}"
      reading fisher "$case" "retain sampled $precision" "$1" bench fisher "${own[@]}" --labels sampled
      reading fisher "$case" "retain position $precision" "$1" bench fisher "${own[@]}" --unit position
    done
    reading fisher "$case" "torch loop fp32" "$1" peer fisher --how loop "${shape[@]}"
    reading fisher "$case" "torch loop bf16" "$1" peer fisher --how loop "${shape[@]}" --precision bf16
    reading fisher "$case" "torch vmap fp32" "$1" peer fisher --how vmap "${shape[@]}"
  done
}

# What the other methods add: their steps in turn with plain ones inside each process; 1024 tokens a step.
part_methods() {
  local repeat=$1 case words
  for case in si mas rwalk "ewc, K-FAC" "ewc, K-FAC, coupled" "ewc, K-FAC in bf16" "ewc, K-FAC, whole" "lwf, online" "lwf, cached" \
    "replay, r 0.2" "self_rehearsal, r 0.2" "der, r 0.2" "agem"; do
    case $case in
      *K-FAC*) words="--set fisher.structure=kronecker" ;;
      *cached*) words="--set teacher=cached" ;;
      *r\ 0.2) words="--set ratio=0.2" ;;
      *) words= ;;
    esac
    [[ $case != *coupled ]] || words+=" --set form=coupled"
    [[ $case != *bf16 ]] || words+=" --set fisher.storage=bf16"
    [[ $case != *whole ]] || words+=" --set fisher.rank=0"
    reading methods "$case" "retain fp32" "$repeat" \
      bench method --model stories15m --batch 4 --seq 256 --steps 9 --method "${case%%,*}" $words
  done
  # Minutes; once is enough.
  [[ $repeat = 1 ]] || return 0
  reading methods "ewc, K-FAC, GPT-2, B16 T256" "retain fp32" "$repeat" bench method --model gpt2 --batch 16 --seq 256 \
    --steps 2 --method ewc --set fisher.structure=kronecker
}

part_head() {
  in_turn head "15M, 4096 tokens" "$1" parts head --model stories15m --batch 16 --seq 256 --steps 3
  reading head "15M, 4096 tokens" "retain products fp32" "$1" bench gemm --model stories15m --batch 16 --seq 256 --steps 3
  in_turn head "124M, 1024 tokens" "$1" parts head --model gpt2 --batch 4 --seq 256 --steps 3
  reading head "124M, 1024 tokens" "retain products fp32" "$1" bench gemm --model gpt2 --batch 4 --seq 256 --steps 3
}

# Compiling changes nothing here: the operation is one already.
part_attention() {
  local length
  for length in 256 512 1024 2048; do
    local shape=(--model gpt2 --batch $((2048 / length)) --seq "$length" --steps 5)
    local case="12 heads of 64, T$length"
    reading attention "$case" "retain fp32" "$1" bench attention "${shape[@]}"
    reading attention "$case" "torch fp32" "$1" peer parts attention "${shape[@]}"
    if retain_has_bf16 attention; then
      reading attention "$case" "retain bf16" "$1" bench attention "${shape[@]}" --precision bf16
    fi
    reading attention "$case" "torch bf16" "$1" peer parts attention "${shape[@]}" --precision bf16
  done
}

# Documents of unlike lengths in a row of 2048 tokens: cost should follow the sum of their squares.
part_packed() {
  local count
  for count in 1 2 4 8 16; do
    local shape=(--model gpt2 --batch 1 --seq 2048 --documents "$count" --steps 5)
    reading packed "$count documents" "retain fp32" "$1" bench attention "${shape[@]}"
    reading packed "$count documents" "torch fp32, loop" "$1" peer parts attention "${shape[@]}" --packed loop
    reading packed "$count documents" "torch fp32, mask" "$1" peer parts attention "${shape[@]}" --packed mask
  done
}

part_optimizer() {
  reading optimizer "124M" "retain fp32" "$1" bench optimizer --model gpt2 --steps 5
  reading optimizer "124M" "torch fp32" "$1" peer parts optimizer --steps 5
  reading optimizer "124M" "torch compile fp32" "$1" peer parts optimizer --steps 5 --compile
  reading optimizer "124M" "torch fp32, gradient" "$1" peer parts optimizer --steps 5 --penalty gradient
}

# Peak memory of an EWC step on 2048 tokens; one reading is enough. Training's stands in its own parts.
part_memory() {
  [[ $1 = 1 ]] || return 0
  in_turn memory "124M, EWC, B4 T512" 1 step ewc --model gpt2 --batch 4 --seq 512 --steps 1
}

run_parts machine agree train15 train124 ewc15 ewc124 fisher methods head attention packed optimizer memory
"$PYTHON" "$here/tables.py" compare "$sitting" >"$folder/compare.md"
cat "$folder/compare.md"
