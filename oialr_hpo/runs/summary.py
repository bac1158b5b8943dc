"""How a search stands, in words: how far it is, what went wrong, and its best trials beside the untuned settings."""

import time
from collections import Counter
from collections.abc import Sequence

from oialr_hpo.experiment.metrics import shown_metrics
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.environment import UNKNOWN
from oialr_hpo.runs.leaders import leaders
from oialr_hpo.runs.printing import clock, table
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.time_left import durations, time_left
from oialr_hpo.runs.trial import RETRIED, State, Trial


def summary(run: RunDirectory, top: int = 3) -> str:
    """How a search stands, with its `top` trials or Pareto front beside the untuned settings and the dense model."""
    alive = run.alive
    trials, experiment = current(run, alive), run.experiment
    several_goals = len(experiment.score.goals) > 1
    lines = [headline(run, trials)]
    word = run.concluded if all(trial.finished for trial in trials) else None
    if word or (not alive and (word := not_running(run, trials))):
        lines.append(word)
    lines += _unhappy_ends(trials)

    compared = leaders(trials, experiment, top)
    if compared:
        scores = experiment.score.metrics if several_goals else ["score"]
        metrics = [name for name in shown_metrics(compared[0][1].metrics, "trials") if name not in scores]
        rows = [
            [name, trial.number, *trial.scores, *(trial.metrics.get(metric) for metric in metrics), trial.seconds]
            for name, trial in compared
        ]
        lines += ["", table(["", "trial", *scores, *metrics, "seconds"], rows)]
    winners = best(trials)
    if winners and not several_goals:
        untuned = {key: experiment.value(key) for key in experiment.search}
        rows = [[key, value, untuned.get(key)] for key, value in winners[0].settings.items()]
        lines += ["", table(["setting", "best", "untuned"], rows)]
    elif not winners and any(trial.state is State.COMPLETE for trial in trials):
        lines += ["", "no trial meets the constraints yet"]
    return "\n".join(lines)


def current(run: RunDirectory, alive: bool) -> list[Trial]:
    """The trials of a run; those that were running when their search was killed count as interrupted."""
    trials = run.trials()
    for trial in trials:
        if trial.state is State.RUNNING and not alive:
            trial.state = State.INTERRUPTED
    return trials


def headline(run: RunDirectory, trials: Sequence[Trial]) -> str:
    """How far a search is, in a line."""
    usage, total = run.usage(), run.experiment.trials
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{states[state]} {state.value}" for state in State if states[state]) or "none started"
    used = "" if usage.utilization is None else f", {usage.utilization:.0%} of worker time spent training"
    ended = durations([trial for trial in trials if trial.finished])
    environment = run.environment
    until = environment["workers"], environment.get("deadline")
    left = time_left(ended, total, *until) if states[State.RUNNING] else None
    times = clock(usage.elapsed) + (f", about {clock(left)} left" if left else "")
    return f"{run.path}: {counts} of {total} trials in {times}{used}"


def not_running(run: RunDirectory, trials: Sequence[Trial]) -> str | None:
    """That nothing runs the search, and how to go on; None where it is done: trainings of `train` at their end."""
    seen, experiment, finished = run.abandoned, run.experiment, sum(trial.state.final for trial in trials)
    if finished >= experiment.trials or (not experiment.search and finished == len(trials) and seen is None):
        return None
    moment = "" if seen is None else time.strftime(" (ended without a word at %Y-%m-%d %H:%M)", time.localtime(seen))
    command = run.environment["command"]
    if command == UNKNOWN["command"]:
        return f"not running{moment}, its command with --resume goes on"
    return f"not running{moment}, resume with: {command}{'' if '--resume' in command else ' --resume'}"


def _unhappy_ends(trials: Sequence[Trial]) -> list[str]:
    """Why trials did not come to their ends, how often, and how they run again."""
    lines = []
    for state in (State.FAILED, State.OUT_OF_MEMORY, State.INTERRUPTED):
        reasons = Counter(trial.reason for trial in trials if trial.state is state and trial.reason)
        lines += [f"  {state.value.replace('_', ' ')} {count} x: {reason}" for reason, count in reasons.most_common()]
    retried = [state for state in RETRIED if any(trial.state is state for trial in trials)]
    if retried:
        options = " ".join(f"--retry {state.value}" for state in retried)
        lines.append(f"  where that is mended, --resume {options} runs these again")
    return lines
