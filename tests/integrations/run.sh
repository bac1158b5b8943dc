#!/usr/bin/env bash
# With the real packages (bitsandbytes, accelerate, transformers, peft, Lightning, ONNX, wandb, MLflow), in an environment of their own, made once.
# PYTHON chooses the interpreter, VENV the directory; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv-integrations}

if [ ! -e "$VENV/complete" ] || [ pyproject.toml -nt "$VENV/complete" ]; then
    echo "installing into $VENV (about 6 GB, some minutes the first time)"
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[mpi,test,integrations]"
    touch "$VENV/complete"
fi
# shellcheck disable=SC1091
source "$VENV/bin/activate"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python -m pytest tests/integrations tests/examples/test_examples.py::test_a_callback_of_hugging_face_s_trainer "$@"
