#!/bin/sh
# Make .venv from the hash-pinned lock file. Usage: venv.sh PYTHON
set -eu
python=$1
usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
# Where the system's own is older, as on Ubuntu 22.04, one that was installed beside it will do.
if [ "$python" = python3 ] && ! usable python3; then
  for beside in python3.12 python3.11 python3.13; do
    if usable "$beside"; then python=$beside && break; fi
  done
fi
if ! usable "$python"; then
  found=$("$python" --version 2>/dev/null) || found="not there"
  echo "error: $python is $found; gpuserve needs Python 3.11 or newer." >&2
  echo "Fix: install it (where the distribution has it: apt-get install python3.11), or name yours: make PYTHON=/path/to/python3.11 ..." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # Of this Python's version: where a machine has several, python3-venv is that of another one.
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
  else
    echo "error: $python has no venv module. Fix: install your system's python3-venv package." >&2
    exit 1
  fi
fi
[ -x .venv/bin/python ] || "$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
