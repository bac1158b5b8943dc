# shellcheck shell=bash
# Sourced by quickstart.sh, test.sh and workstation.sh: a virtual environment with the package and an MPI runtime, made once.
# PYTHON chooses the interpreter (3.10 to 3.12), VENV the directory.
VENV=${VENV:-.venv}
EXTRAS=mpi,test

if [ ! -e "$VENV/complete" ] || [ pyproject.toml -nt "$VENV/complete" ]; then
    for PYTHON in ${PYTHON:-python3.12 python3.11 python3.10 python3}; do
        "$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && break
        PYTHON=
    done
    if [ -z "$PYTHON" ]; then
        echo "error: no Python 3.10, 3.11 or 3.12 found; install one, or name it: PYTHON=/path/to/python bash $0" >&2
        exit 1
    fi
    echo "installing into $VENV (about 6 GB, some minutes the first time)"
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$EXTRAS]"
    touch "$VENV/complete"
fi
# shellcheck disable=SC1091
source "$VENV/bin/activate"
