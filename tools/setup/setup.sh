#!/usr/bin/env bash
# Makes everything ready that the other targets need: Debian packages (Linux), .venv, the builds. Quick when nothing changed.
#
#   PYTHON=python3.12 tools/setup/setup.sh     # which Python .venv is made of; default python3
#   tools/setup/setup.sh nnunetv2              # nnU-Net as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null

python="${PYTHON:-python3}"
logs=build/setup
mkdir -p "$logs"

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$1" >&2
  [ $# -eq 1 ] || printf '    %s\n' "${@:2}" >&2
  exit 1
}
has_python_module() { "$python" -c "import $1" >/dev/null 2>&1; }
has_python_headers() {
  "$python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' >/dev/null 2>&1
}

# Prints the Debian packages that are missing, one a line.
missing_packages() {
  local package file
  while read -r package file; do
    compgen -G "$file" >/dev/null || echo "$package"
  done <simulator/debian-packages.txt
  # Debian's packages complete Debian's Python alone.
  case "$(command -v "$python" || echo "/usr/bin/$python")" in
    /usr/bin/python3*)
      command -v "$python" >/dev/null || echo python3
      has_python_module ensurepip || echo python3-venv
      has_python_headers || echo python3-dev
      ;;
  esac
}

install_packages() {
  local log="$logs/packages.log" sudo=() started=$SECONDS
  if [ "$(id -u)" != 0 ]; then
    # With a terminal sudo may ask for a password; without one it must not.
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -e /dev/tty ] && sudo -v </dev/tty 2>/dev/null; }; }; then
      sudo=(sudo)
    else
      fail "these Debian packages are missing, and installing them takes root. Run this, then try again:" \
        "apt-get install --no-install-recommends $*"
    fi
  fi
  say "Debian packages: installing $*"
  apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"; }
  # The lists are brought up to date only where the ones at hand are absent or too old to find the packages.
  if ! apt install -y --no-install-recommends "$@" >"$log" 2>&1; then
    apt update >>"$log" 2>&1 && apt install -y --no-install-recommends "$@" >>"$log" 2>&1 || {
      tail -n 20 "$log" >&2
      fail "apt-get failed; the whole log is $log"
    }
  fi
  say "Debian packages: installed in $((SECONDS - started)) s"
}

case "$(uname -s)" in
  Linux)
    if command -v apt-get >/dev/null; then
      mapfile -t missing < <(missing_packages)
      [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
    elif ! command -v clang++-19 >/dev/null; then
      fail "this is no Debian: install clang 19, lld 19, llvm 19, GNUstep base, gobjc++ and Boost.Context first"
    fi
    ;;
  Darwin)
    xcrun --find clang++ >/dev/null 2>&1 || fail "no compiler: run  xcode-select --install  first, then try again"
    ;;
esac

has_python_module ensurepip || fail "$python is absent or cannot make virtual environments: set PYTHON to another Python"
[ "$(uname -s)" = Darwin ] || has_python_headers || fail "$python comes without Python.h: set PYTHON to another Python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "$python is too old: Python 3.9 or later is needed"

# A clone that was moved, or whose Python was removed, has a .venv that no longer starts.
if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
  say "making .venv with $("$python" --version)"
  rm -rf .venv
  "$python" -m venv .venv >"$logs/venv.log" 2>&1 || {
    tail -n 20 "$logs/venv.log" >&2
    fail "could not make .venv"
  }
fi
exec .venv/bin/python tools/setup/install.py "$@"
