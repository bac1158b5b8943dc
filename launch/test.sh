#!/usr/bin/env bash
# The whole test suite: style, types, tests; those of the MPI engine start mpirun -n 4 themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

ruff check .
mypy
python -m pytest "$@"
