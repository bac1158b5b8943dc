#!/usr/bin/env bash
# From a fresh clone to tuned settings: install, search on four MPI ranks, export the best, train with it again.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

run=runs/quickstart
rm -rf "${run:?}"
mpirun -n 4 python -m oialr_hpo.search vit_digits --out "$run"
python -m oialr_hpo.export "$run"
python -m oialr_hpo.train "$run/best/quickstart-1.yaml"
python -m oialr_hpo.train "$run/best/quickstart-1.yaml" --seeds 0 1 2 --split test | tail -n 12
