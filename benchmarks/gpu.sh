#!/usr/bin/env bash
# Everything that a machine with a GPU can tell, in under nine minutes and without a network:
#
#   benchmarks/gpu.sh [--small] [FOLDER]
#
# First whether the GPU computes what the CPU does; if not, it stops there with status 1. Then how fast: searches,
# seconds to quality, training. FOLDER (or $CELEBA) holds prepared CelebA images (train.npy, validation.npy): then the
# paper's flow is trained on them in the time that is left. Without a GPU, or with --small, all of it runs small on the
# CPU, in under three minutes.
#
# It needs Python 3.11 with torch, numpy, pydantic, pyyaml and safetensors; $PYTHON names another Python. What is
# missing is installed from wheels in .whl/ (or $WHEELS) for this run alone. Results go to $OUT (benchmarks/results).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf '%s\n' "$*" >&2; }
stop() { say "gpu.sh: $*"; exit 1; }

small=0 folder=${CELEBA:-}
for argument in "$@"; do
  case $argument in
    --small) small=1 ;;
    -*) stop "unknown option '$argument'; there is --small" ;;
    *) folder=$argument ;;
  esac
done
[[ -z $folder || -f $folder/train.npy ]] || stop "no $folder/train.npy; name a folder of prepared images"
out=${OUT:-benchmarks/results}
mkdir -p "$out" || stop "can not write to $out"

python=
for candidate in ${PYTHON:+"$PYTHON"} .venv/bin/python python3 python3.13 python3.12 python3.11 python; do
  if "$candidate" -c 'import sys, torch; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate && break; fi
done
[[ -n $python ]] || stop "no Python 3.11 or newer with torch; name one: PYTHON=/where/python benchmarks/gpu.sh"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# Threads of torch that wait by spinning take the cores of those that work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

missing() {
  "$python" - <<'PROGRAM'
import importlib.util
packages = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "pyyaml", "safetensors": "safetensors"}
print(*(package for module, package in packages.items() if importlib.util.find_spec(module) is None))
PROGRAM
}

needed=$(missing)
wheels=${WHEELS:-.whl}
if [[ -n $needed ]] && compgen -G "$wheels/*.whl" >/dev/null; then
  site=$(mktemp -d) && trap 'rm -rf "$site"' EXIT
  say "installing from $wheels for this run: missing $needed"
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl || stop "pip could not install $wheels/*.whl"
  export PYTHONPATH="$site:$PYTHONPATH"
  needed=$(missing)
fi
if [[ -n $needed ]]; then
  stop "missing: $needed. Where there is a network: pip download --only-binary=:all: -d .whl $needed; copy .whl/ here"
fi

device=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
[[ $small = 1 ]] && device=cpu
limit=540
[[ $device = cpu ]] && limit=180
say "$("$python" -c 'import sys, torch; print(f"Python {sys.version.split()[0]}, torch {torch.__version__}")'), on ${device}"

# part SECONDS COMMAND...: a command, at most so long and never beyond the limit of all; what fails is remembered.
failed=0
part() {
  local seconds=$1 left=$((limit - SECONDS)) status=0
  shift
  ((seconds > left)) && seconds=$left
  if ((seconds < 10)); then say "left out, no time: $*" && failed=1 && return 1; fi
  timeout "$seconds" "$python" -m "$@" || status=$?
  [[ $status = 124 ]] && say "stopped after $seconds s: $*"
  ((status == 0)) || failed=1
  return "$status"
}

images=32
[[ $device = cpu ]] && images=8
part 120 benchmarks.agreement --device "$device" --images "$images"
case $? in
  0) ;;
  124) stop "the comparison with the CPU did not end in time; is the machine busy?" ;;
  *) stop "$device does not compute what the flows do: see the lines marked WRONG, or the error" ;;
esac

if [[ $device = cuda ]]; then
  part 240 benchmarks --device cuda --only inversion --out "$out/gpu-inversion"
  part 70 benchmarks --device cuda --only training --quick --out "$out/gpu-training"
  if "$python" -c 'import skimage, PIL' 2>/dev/null; then
    part 100 benchmarks --device cuda --only quality --quick --out "$out/gpu-quality"
  else
    say "quality is left out: it needs scikit-image, whose photographs it restores"
  fi
  if [[ -n $folder ]]; then
    seconds=$((limit - SECONDS - 40))
    if ((seconds > 20)); then part "$((seconds + 35))" benchmarks.paper_flow "$folder" --device cuda --seconds "$seconds" --out "$out"; else say "no time is left to train on $folder"; fi
  fi
else
  part 130 benchmarks --quick --suite cpu_small --only inversion training --out "$out/small"
  if [[ -n $folder ]]; then part 40 benchmarks.paper_flow "$folder" --seconds 5 --hidden 16 --out "$out"; fi
fi
say "$SECONDS s; results in $out"
exit "$failed"
