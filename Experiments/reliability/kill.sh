#!/usr/bin/env bash
# Kills a run at random moments and shows that running it again ends where an uninterrupted run ends, bit for bit.
#   kill.sh [RETAIN [EXPERIMENT.yaml [KILLS]]]
# The experiment is run once in peace and once under fire, both in a temporary folder; nothing else is touched.
set -euo pipefail
unset OPENBLAS_CORETYPE
here=$(dirname "${BASH_SOURCE[0]}")
retain=${1:-$here/../../.build/release/retain} experiment=${2:-$here/chain.yaml} kills=${3:-25}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { "$retain" run "$experiment" "output_dir=$1" "${@:2}"; }

start=$(date +%s.%N)
run "$work/whole" >"$work/whole.log" 2>&1
seconds=$(echo "$(date +%s.%N) - $start" | bc)
echo "uninterrupted: $seconds s"

done_kills=0 resumed=0 attempts=0
while [ "$done_kills" -lt "$kills" ]; do
  attempts=$((attempts + 1))
  # Not through a function: the signal must reach the program, not a shell around it.
  "$retain" run "$experiment" "output_dir=$work/cut" >"$work/cut-$attempts.log" 2>&1 &
  process=$!
  # A moment within about a fifth of the whole run, so that many deaths fit into it.
  sleep "$(awk -v s="$seconds" -v r="$RANDOM" 'BEGIN { print 0.02 + s / 5 * r / 32768 }')"
  if kill -9 "$process" 2>/dev/null; then done_kills=$((done_kills + 1)); fi
  wait "$process" 2>/dev/null || true
  if grep -q "resuming from" "$work/cut-$attempts.log"; then resumed=$((resumed + 1)); fi
  if [ -f "$work/cut/results.json" ] && ! kill -0 "$process" 2>/dev/null \
    && grep -q '"status": "finished"' "$work/cut/results.json" && [ "$done_kills" -lt "$kills" ]; then
    # It finished between two kills: start the chain again and go on.
    python3 - "$work" <<'PY' || exit 1
import json, sys
a, b = (json.load(open(f"{sys.argv[1]}/{d}/results.json")) for d in ("whole", "cut"))
for r in (a, b): r.pop("cost"), r.pop("environment")
sys.exit(0 if a == b else 1)
PY
    rm -rf "$work/cut"
  fi
done
run "$work/cut" >"$work/last.log" 2>&1
if grep -q "resuming from" "$work/last.log"; then resumed=$((resumed + 1)); fi
echo "kills: $done_kills, starts that resumed from a checkpoint: $resumed"
python3 - "$work" <<'PY'
import json, os, sys
work = sys.argv[1]
def results(path):
    r = json.load(open(path)); r.pop("cost"); r.pop("environment"); return r
def losses(path):
    return [(e["stage"], e["step"], e["loss"]) for e in map(json.loads, open(path)) if e["event"] == "step"]
ok = True
for variant in [""] + [d for d in os.listdir(f"{work}/whole") if os.path.isfile(f"{work}/whole/{d}/results.json")]:
    whole, cut = f"{work}/whole/{variant}", f"{work}/cut/{variant}"
    same = results(whole + "/results.json") == results(cut + "/results.json")
    same_losses = losses(whole + "/ledger.jsonl") == losses(cut + "/ledger.jsonl")
    print(f"{variant or 'main'}: results equal {same}, losses equal {same_losses}, parameters {results(cut + '/results.json')['final']['parameters_sha256'][:16]}…")
    ok &= same and same_losses
sys.exit(0 if ok else 1)
PY
