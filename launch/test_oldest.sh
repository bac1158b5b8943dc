#!/usr/bin/env bash
# The tests with the oldest versions that pyproject.toml admits, in an environment of their own, made once: Python 3.10,
# every direct requirement at its floor. PYTHON chooses the interpreter, VENV the directory; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.10}
VENV=${VENV:-.venv-oldest}

if [ ! -e "$VENV/complete" ] || [ pyproject.toml -nt "$VENV/complete" ]; then
    echo "installing into $VENV (about 6 GB, some minutes the first time)"
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check uv
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --resolution lowest-direct --editable ".[mpi,test]"
    touch "$VENV/complete"
fi
# shellcheck disable=SC1091
source "$VENV/bin/activate"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # a test worker per core
python -m pytest -n auto --dist worksteal "$@"
