# What compare.sh and growth.sh share: a scrubbed environment, options, and readings that are kept as they come.
# A sitting is one JSON file; a reading that is in it is not taken again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

# Both sides choose their kernels and threads themselves.
unset OPENBLAS_CORETYPE
for name in $(compgen -e); do
  case $name in OMP_* | MKL_* | GOMP_* | KMP_* | OPENBLAS_* | DNNL_* | ONEDNN_*) unset "$name" ;; esac
done

RETAIN=${RETAIN:-$root/.build/release/retain}
PYTHON=${PYTHON:-python3}
threads=2
repeats=5
folder=$root/runs/benchmarks/$(date +%F)
again=no
smoke=no
own=no
parts=()

# options NAME ARGUMENT...: reads the command line; NAME is the sitting's file without .json
options() {
  local name=$1
  shift
  while (($#)); do
    case $1 in
      --repeats) repeats=$2; shift 2 ;;
      --threads) threads=$2; shift 2 ;;
      --out) folder=$2; shift 2 ;;
      --again) again=yes; shift ;;
      --own) own=yes; shift ;;
      --smoke) smoke=yes; repeats=1; shift ;;
      --retain) RETAIN=$2; shift 2 ;;
      -h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
      -*) echo "unknown option $1; --help lists them" >&2; exit 64 ;;
      *) parts+=("$1"); shift ;;
    esac
  done
  # Apart, so that no figure of a smoke test stands in a sitting.
  [[ $smoke = no ]] || folder=$folder/smoke
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  sitting=$folder/$name.json
  [[ -x $RETAIN ]] || { echo "there is no $RETAIN; run make build, or set RETAIN" >&2; exit 69; }
  "$PYTHON" -c '' || { echo "PYTHON=$PYTHON does not run" >&2; exit 69; }
}

readings() { "$PYTHON" "$here/readings.py" "$sitting" "$@"; }

# reading PART CASE SIDE REPEAT COMMAND...: runs a command that prints a JSON object, unless its reading is there
reading() {
  local part=$1 case=$2 side=$3 repeat=$4
  shift 4
  if [[ $own = yes && $side = torch* ]]; then return; fi
  if readings has "$part" "$case" "$side" "$repeat"; then return; fi
  local load code=0
  load=$(cut -d' ' -f1 /proc/loadavg)
  "$@" >"$folder/reading.tmp" 2>"$folder/errors.tmp" || code=$?
  readings add "$part" "$case" "$side" "$repeat" "$load" "$code" "$folder/reading.tmp" "$folder/errors.tmp"
  rm -f "$folder/reading.tmp" "$folder/errors.tmp"
}

bench() { "$RETAIN" bench "$@" $(tiny "$@") --threads "$threads" --json; }
peer() {
  local script=$1
  shift
  "$PYTHON" "$here/peers/$script.py" "$@" $(tiny "$@") --threads "$threads"
}
# What makes a smoke test of a command: the last of two values counts.
tiny() {
  [[ $smoke = yes ]] || return 0
  echo --steps 1
  [[ " $* " = *" --weights "* ]] || echo --shape hidden=64,inner=128,layers=2,heads=4,vocabulary=512
}

# Whether `retain bench TASK` takes --precision bf16; asked on a tiny shape, once a task.
declare -A takes_bf16=()
retain_has_bf16() {
  if [[ -z ${takes_bf16[$1]:-} ]]; then
    takes_bf16[$1]=no
    if bench "$1" --precision bf16 --batch 1 --seq 32 --steps 1 \
      --shape hidden=64,inner=128,layers=1,heads=2,vocabulary=256 >/dev/null 2>&1; then takes_bf16[$1]=yes; fi
    [[ ${takes_bf16[$1]} = yes ]] || readings note "retain bench $1 does not take --precision bf16 in this build"
  fi
  [[ ${takes_bf16[$1]} = yes ]]
}

peers_present() {
  "$PYTHON" -c 'import torch, transformers, numpy' 2>/dev/null || {
    echo "$PYTHON lacks torch, transformers or numpy. Install them in an environment of its own:" >&2
    echo "  python3 -m venv peer-venv && peer-venv/bin/pip install torch transformers numpy" >&2
    echo "and run with PYTHON=peer-venv/bin/python" >&2
    exit 69
  }
}

# run_parts ALL...: the parts asked for, or all; each is a function part_NAME REPEAT, with dashes as underscores
run_parts() {
  local part repeat
  for part in "${parts[@]}"; do
    declare -F "part_${part//-/_}" >/dev/null || { echo "no part $part; parts: $*" >&2; exit 64; }
  done
  ((${#parts[@]})) || parts=("$@")
  readings machine "$RETAIN" "$threads"
  [[ $smoke = no ]] || readings note "a smoke test of tiny shapes: no figure means anything"
  for part in "${parts[@]}"; do
    if [[ $again = yes ]]; then readings drop "$part"; fi
    for ((repeat = 1; repeat <= repeats; repeat++)); do "part_${part//-/_}" "$repeat"; done
  done
}
