#!/usr/bin/env bash
# From a fresh clone to tuned settings: install, search on four MPI ranks, export the best, train with it again.
# RUN chooses the run directory; without it the first of runs/quickstart, runs/quickstart-2, ... that is not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

if [ -z "${RUN:-}" ]; then
    RUN=runs/quickstart
    for ((number = 2; ; number++)); do
        [ -e "$RUN" ] || break
        RUN=runs/quickstart-$number
    done
elif [ -e "$RUN" ]; then
    echo "error: RUN=$RUN exists; choose another" >&2
    exit 2
fi
best=$RUN/best/$(basename "$RUN")-1.yaml

say_and_do() {
    printf '\n$ %s\n' "$*"
    "$@"
}
say_and_do mpirun -n 4 python -m oialr_hpo.search vit_digits --out "$RUN"
say_and_do python -m oialr_hpo.export "$RUN"
say_and_do python -m oialr_hpo.train "$best"
say_and_do python -m oialr_hpo.train "$best" --seeds 0 1 2 --split test --quiet
cat <<END

to go on, here or in a new shell:
  source $(printf %q "$(realpath "$VENV")/bin/activate")
  cd $(printf %q "$PWD")
  python -m oialr_hpo.report $(printf %q "$RUN")    # the search as a page
END
