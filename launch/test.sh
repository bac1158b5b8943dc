#!/usr/bin/env bash
# The whole test suite: style, types, pages, tests; those of the MPI engine start mpirun -n 4 themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

ruff check .
mypy
mkdocs build --strict --quiet --site-dir "$site"
python -m compileall -q oialr_hpo tests  # once for all processes that tests start
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # a test worker per core
python -m pytest -n auto --dist worksteal "$@"
