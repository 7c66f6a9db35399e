#!/usr/bin/env bash
# All tests, in the order in which a fault is cheapest to find; a failed part does not hide the others.
# On a Mac there is nothing to simulate, and what it compiles is compiled for a Mac anyway.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
# One process a core, each with one thread for the operators of the CPU.
processes="$("$python" -c 'import os; print(min(8, os.cpu_count() or 1))')"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
failed=()

part() {
  local name="$1" started=$SECONDS
  shift
  printf '\n=== %s\n' "$name"
  if "$@"; then
    printf '=== %s: passed in %d s\n' "$name" $((SECONDS - started))
  else
    printf '=== %s: FAILED after %d s\n' "$name" $((SECONDS - started))
    failed+=("$name")
  fi
}
tests() { "$python" -m pytest -q -n "$processes" --durations 5 "$@"; }

part "style" make --no-print-directory lint
if [ "$(uname -s)" = Linux ]; then
  part "check-mac" make --no-print-directory check-mac
  # Without the product, which would take ConvTranspose3d over.
  MPS_CONV_TRANSPOSE3D=0 part "tests of the simulator" tests simulator/tests
fi
part "tests of the product" tests tests

if [ ${#failed[@]} -gt 0 ]; then
  printf '\nFAILED: %s\n' "$(IFS=,; echo "${failed[*]}")"
  exit 1
fi
