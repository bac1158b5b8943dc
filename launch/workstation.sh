#!/usr/bin/env bash
# A search on one machine with several GPUs, without a batch system: bash launch/workstation.sh; again to go on with it.
EXPERIMENT=${EXPERIMENT:-vit_cifar}
RUN=${RUN:-runs/$EXPERIMENT}
WORKERS=${WORKERS:-$(nvidia-smi --list-gpus 2>/dev/null | grep -c . || true)} # one per GPU; more share them
OPTIONS=${OPTIONS:-} # further ones of oialr_hpo.search, such as --trials 100

set -euo pipefail
cd "$(dirname "$0")/.."
[ "$WORKERS" -gt 0 ] || WORKERS=$(nproc)
LAUNCH=${LAUNCH-mpirun -n $WORKERS} # empty: no MPI, Optuna's engine
OIALR_ENV=${OIALR_ENV:-launch/env.sh}
if [ -e "$OIALR_ENV" ]; then
    # shellcheck source=launch/env.example.sh
    source "$OIALR_ENV"
else
    source launch/environment.sh
fi
read -ra launch <<<"$LAUNCH"
eval "options=($OPTIONS)"
[ -n "$LAUNCH" ] || options+=(--jobs "$WORKERS")
[ ! -e "$RUN/lock" ] || options+=(--resume)

mkdir -p "$(dirname "$RUN")"
{
    echo "=== $(date '+%F %T') $EXPERIMENT, $WORKERS workers"
    "${launch[@]}" python -m oialr_hpo.check "$EXPERIMENT" --out "$RUN" &&
        "${launch[@]}" python -m oialr_hpo.search "$EXPERIMENT" --out "$RUN" "${options[@]}"
} 2>&1 | tee -a "$RUN.log"
