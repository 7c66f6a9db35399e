#!/usr/bin/env bash
# What a hosted Mac can show, step by step; .github/workflows/macos.yml runs them all.
#
#   tools/mac/runner.sh machine            # the system, its compilers, its GPU
#   tools/mac/runner.sh kernels            # Apple's shader compiler takes the kernels, in each version of its language
#   tools/mac/runner.sh package 2.15.0     # the package is built beside this torch as README.md says, and used
#   tools/mac/runner.sh refusals 2.15.0    # beside what `package` made: pip fails where something is missing
#   tools/mac/runner.sh wheel 2.13.0 2.15.0    # the one wheel in dist/, installed beside each torch, and used
#   tools/mac/runner.sh doctor 2.15.0      # beside what `wheel` made: build/runner/doctor.json, and the device computes
#
# PYTHON=python3.12 chooses the Python. All that is made lies in build/runner.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="${PYTHON:-python3}"
work="$PWD/build/runner"
mkdir -p "$work"

machine() {
  sw_vers
  uname -m
  xcodebuild -version
  xcrun clang++ --version
  "$python" --version
  system_profiler SPDisplaysDataType
}

metal() { xcrun -sdk macosx metal "$@"; }

# From Xcode 26 on the shader compiler is a download of its own, and xcrun may have to be told where it lies.
find_metal() {
  metal --version >/dev/null 2>&1 || xcodebuild -downloadComponent MetalToolchain
  if ! metal --version >/dev/null 2>&1; then
    TOOLCHAINS="$(xcodebuild -showComponent MetalToolchain | sed -n 's/^ *Toolchain Identifier: //p')"
    export TOOLCHAINS
  fi
  metal --version
}

kernels() {
  local build="$work/kernels" version element source accepted=0 refused=0
  find_metal
  cmake -S . -B "$build"
  cmake --build "$build" --target shaders
  : >"$build/empty.metal"
  for version in 3.0 3.1 3.2 4.0 4.1; do
    if ! metal -std="metal$version" -c "$build/empty.metal" -o "$build/empty.air" 2>/dev/null; then
      echo "Metal $version: not known here"
      continue
    fi
    for element in float half bfloat; do
      [ "$version $element" != "3.0 bfloat" ] || continue # bfloat came with 3.1
      for source in "$build"/shaders/*.metal; do
        # As csrc/encoding.mm has it compiled.
        if metal -std="metal$version" -fno-fast-math -DELEMENT="$element" -c "$source" -o "$build/shader.air"; then
          accepted=$((accepted + 1))
        else
          refused=$((refused + 1))
          echo "Metal $version: $(basename "$source") refused, for $element"
        fi
      done
    done
    echo "Metal $version: $accepted texts accepted so far, $refused refused"
  done
  [ $accepted -gt 0 ] && [ $refused -eq 0 ]
}

package() {
  "$python" -m venv "$work/torch-$1"
  export PATH="$work/torch-$1/bin:$PATH"
  pip install "torch==$1" numpy pytest
  pip install setuptools cmake ninja pybind11
  pip install --no-build-isolation .
  python tools/mac/smoke.py
}

refusals() {
  # Without conftest.py, which asks for a device; and without the tests that fake a machine which is none of Apple's.
  "$work/torch-$1/bin/python" -m pytest --noconftest -k "not elsewhere and not without_metal" tests/test_install.py
}

wheel() {
  local version
  for version; do
    "$python" -m venv --clear "$work/wheel-$version"
    "$work/wheel-$version/bin/pip" install "torch==$version" numpy pytest
    "$work/wheel-$version/bin/pip" install --no-index --no-deps dist/*.whl
    "$work/wheel-$version/bin/pip" check
    "$work/wheel-$version/bin/python" tools/mac/smoke.py
  done
}

doctor() {
  local python="$work/wheel-$1/bin/python"
  "$python" -m mps_conv_transpose3d doctor --json | tee "$work/doctor.json"
}

step="${1:?which step? see the head of this file}"
shift
case "$step" in
  machine | kernels | package | refusals | wheel | doctor) "$step" "$@" ;;
  *) echo "no step $step" >&2; exit 2 ;;
esac
