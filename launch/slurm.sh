# shellcheck shell=bash
# Sourced by the Slurm scripts: the environment, and what makes a run outlive its time limit.

cd "${SLURM_SUBMIT_DIR:?this is a batch script: submit it with sbatch}" || exit 2
OIALR_ENV=${OIALR_ENV:-launch/env.sh}
if [ ! -e "$OIALR_ENV" ]; then
    echo "error: no $OIALR_ENV; copy launch/env.example.sh there and edit it" >&2
    exit 2
fi
# shellcheck source=launch/env.example.sh
source "$OIALR_ENV"
read -ra launch <<<"$LAUNCH"
read -ra python <<<"$INTERPRETER"
python+=(-m)
data=(${STAGE_DIR:+--stage-dir "$STAGE_DIR"})
# shellcheck disable=SC2153 # OPTIONS is the script's
eval "options=($OPTIONS)" # words as the shell would split them: OPTIONS="--set 'KEY=a value'"
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK                 # srun does not take it over from sbatch by itself
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK} # training threads of a rank
fi
echo "=== $(date '+%F %T') job $SLURM_JOB_ID, restart ${SLURM_RESTART_COUNT:-0}, on $SLURM_JOB_NODELIST"

export SLURM_KILL_BAD_EXIT=1 # of srun: a rank that dies takes the others along, which would wait for it

signals=
pass_on() {
    signals="$signals $1"
    kill -s "$1" "$command" 2>/dev/null
}

# SIGTERM is the time limit, where saving took too long; or scancel; or a preemption after which Slurm itself requeues.
terminate() {
    pass_on TERM
    if scontrol show job --oneliner "$SLURM_JOB_ID" | grep -q Reason=TimeLimit; then
        back_to_queue "cut off by the time limit"
    fi
}

# The job once more, MAX_RESTARTS times at most.
back_to_queue() {
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_RESTARTS" ]; then
        echo "$1; back to the queue"
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "$1 after $MAX_RESTARTS restarts; submit again to go on"
    fi
}

# Run a command and pass on to it what the batch system signals; the status is the command's.
run() {
    "$@" &
    command=$!
    trap 'pass_on USR1' USR1
    trap terminate TERM
    while kill -0 "$command" 2>/dev/null; do
        wait "$command"
    done
    wait "$command"
}

# End the job with a status; one that was interrupted for want of time goes back to the queue.
finish() {
    case "$1:$signals" in
    0:* | *TERM*) ;;
    75:* | *USR1*) back_to_queue "interrupted with status $1" ;;
    esac
    exit "$1"
}

# Look whether EXPERIMENT can be searched here, then begin the search in RUN or go on with it, and end the job.
run_search() {
    [ -n "$LAUNCH" ] || options+=(--jobs "$SLURM_NTASKS")
    run "${launch[@]}" "${python[@]}" oialr_hpo.check "$EXPERIMENT" --out "$RUN" "${data[@]}" || finish $?
    [ ! -e "$RUN/lock" ] || options+=(--resume)
    run "${launch[@]}" "${python[@]}" oialr_hpo.search "$EXPERIMENT" --out "$RUN" "${data[@]}" "${options[@]}"
    finish $?
}
