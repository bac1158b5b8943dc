"""`python -m oialr_hpo.status RUN`: how a running or finished search stands."""

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TextIO

from oialr_hpo.commands import Parser, command, path
from oialr_hpo.engines.progress import durations, time_left
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import as_text
from oialr_hpo.runs.directory import UNKNOWN, RunDirectory
from oialr_hpo.runs.files import finite
from oialr_hpo.runs.printing import clock, describe, table
from oialr_hpo.runs.ranking import Standing, best, front, standings
from oialr_hpo.runs.trial import RETRIED, Role, State, Trial

# What the training loop notes beside the metrics.
NOTES = ("epoch", "step", "lr", "train_loss", "data_wait", "device", "ranks", "seconds", "setup_seconds")

MEANING = (
    "seconds: of training and evaluating; setup_seconds: before that, for imports, data and network. parameters: with "
    "frozen ones; total_percent and trainable_percent: of the parameters of the dense network that the file describes."
)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("status", __doc__.split(": ")[1])
    parser.epilog = MEANING
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="for programs")
    kinds.add_argument("--csv", action="store_true", help="one row per trial")
    kinds.add_argument("--watch", action="store_true", help="go on until the search has ended; Ctrl-C leaves it alone")
    options = parser.parse_args(arguments)
    run = RunDirectory.open(options.run)
    if options.watch:
        watch(run, sys.stdout)
    elif options.csv:
        write_csv(run, sys.stdout)
    else:
        print(json.dumps(finite(status(run)), indent=2) if options.json else summary(run))


def status(run: RunDirectory) -> dict[str, Any]:
    """Trials by state, the best so far, time used, and the share of worker time spent on trials."""
    alive = run.alive
    trials, usage = current(run, alive), run.usage()
    states = Counter(trial.state for trial in trials)
    winners = front(trials)
    return {
        "running": alive,
        "trials": {state.value: states[state] for state in State},
        "goals": {goal.metric: goal.direction for goal in run.experiment.score.goals},
        "budget": run.experiment.trials,
        "workers": run.environment["workers"],
        "seconds": usage.elapsed,
        "utilization": usage.utilization,
        "best": _best(winners[0]) if winners and not many_goals(run) else None,
        "pareto_front": [_best(standing) for standing in winners] if many_goals(run) else None,
    }


def current(run: RunDirectory, alive: bool) -> list[Trial]:
    """The trials of a run; those that were running when their search was killed count as interrupted."""
    trials = run.trials()
    for trial in trials:
        if trial.state is State.RUNNING and not alive:
            trial.state = State.INTERRUPTED
    return trials


def not_running(run: RunDirectory, trials: Sequence[Trial]) -> str | None:
    """That nothing runs the search, and how to go on; None where it is done: trainings of `train` at their end."""
    seen, experiment, finished = run.abandoned, run.experiment, sum(trial.finished for trial in trials)
    if finished >= experiment.trials or (not experiment.search and finished == len(trials) and seen is None):
        return None
    moment = "" if seen is None else time.strftime(" (ended without a word at %Y-%m-%d %H:%M)", time.localtime(seen))
    command = run.environment["command"]
    if command == UNKNOWN["command"]:
        return f"not running{moment}, its command with --resume goes on"
    return f"not running{moment}, resume with: {command}{'' if '--resume' in command else ' --resume'}"


def _best(standing: Standing) -> dict[str, Any]:
    trial = standing.trial
    return {
        "number": trial.number,
        "score": standing.scores[0],
        "scores": standing.scores,
        "trials": [each.number for each in standing.trials],
        "settings": trial.settings,
        "metrics": trial.metrics,
        "seconds": trial.seconds,
        "setup_seconds": trial.setup_seconds,
    }


def write_csv(run: RunDirectory, file: TextIO) -> None:
    """One row per trial: what it was, how it ended, its settings and its scored metrics."""
    trials, experiment = current(run, run.alive), run.experiment
    scores = [f"score:{name}" for name in experiment.score.metrics] if len(experiment.score.metrics) > 1 else ["score"]
    metrics = list(
        dict.fromkeys(name for trial in trials for name, value in trial.metrics.items() if _is_number(value))
    )
    known = ["number", "role", "state", "reason", "worker", "seed", "started", "seconds", "setup_seconds", "violation"]
    writer = csv.writer(file)
    writer.writerow([*known, *scores, *experiment.search, *(f"metric:{name}" for name in metrics)])
    for trial in trials:
        row: list[Any] = [trial.number, trial.role.value, trial.state.value, trial.reason, trial.worker, trial.seed]
        row += [trial.started, trial.seconds, trial.setup_seconds, trial.violation]
        row += trial.scores or [None] * len(scores)
        row += [trial.settings.get(key) for key in experiment.search]
        row += [finite(trial.metrics.get(name)) for name in metrics]
        writer.writerow(row)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def summary(run: RunDirectory, top: int = 3) -> str:
    """The same for people: the best trials beside the untuned settings and the dense model."""
    alive = run.alive
    trials, experiment = current(run, alive), run.experiment
    states = Counter(trial.state for trial in trials)
    lines = [headline(run, trials)]
    if not alive and (word := not_running(run, trials)):
        lines.append(word)
    lines += _unhappy_ends(trials)

    compared = leaders(run, trials, top)
    if compared:
        scores = experiment.score.metrics if many_goals(run) else ["score"]
        shown = [name for name in shown_metrics(compared[0][1]) if name not in scores]
        rows = [
            [name, trial.number, *trial.scores, *(trial.metrics.get(metric) for metric in shown), trial.seconds]
            for name, trial in compared
        ]
        lines += ["", table(["", "trial", *scores, *shown, "seconds"], rows)]
    winners = best(trials)
    if winners and not many_goals(run):
        untuned = {key: experiment.value(key) for key in experiment.search}
        rows = [[key, value, untuned.get(key)] for key, value in winners[0].settings.items()]
        lines += ["", table(["setting", "best", "untuned"], rows)]
    elif states[State.COMPLETE] and not winners:
        lines += ["", "no trial meets the constraints yet"]
    return "\n".join(lines)


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


def watch(run: RunDirectory, file: TextIO, every: float = 2.0) -> None:
    """Show how a search stands until no process runs it any more.

    On a terminal the screen is drawn anew every so many seconds. Elsewhere, in a log file, a line is written for every
    trial that ended.
    """
    seen: set[int] = set()
    while True:
        over = not run.alive
        trials = current(run, not over)
        if file.isatty():
            file.write(f"\x1b[H\x1b[2J{summary(run)}\n\n{running(run, trials)}\n")
        else:
            for trial in trials:
                if trial.finished and trial.number not in seen:
                    seen.add(trial.number)
                    file.write(f"[{len(seen)}/{run.experiment.trials}] {describe(trial)}\n")
            if over:
                file.write(f"\n{summary(run)}\n")
        file.flush()
        if over:
            return
        time.sleep(every)


def running(run: RunDirectory, trials: Sequence[Trial]) -> str:
    """The trials that are being trained, with the scores of their last epochs."""
    experiment = run.experiment
    metrics = dict.fromkeys((*experiment.score.metrics, "trainable_percent"))
    rows: list[list[Any]] = []
    for trial in trials:
        if trial.state is State.RUNNING:
            last = trial.epochs[-1] if trial.epochs else {}
            shown = [last.get(name) for name in metrics]
            epoch = f"{last.get('epoch', 0)}/{experiment.epochs(trial.settings)}"
            since = clock(max(0.0, time.time() - trial.started))
            rows.append([trial.number, trial.role.value, trial.worker, epoch, *shown, since])
    return table(["running", "", "rank", "epoch", *metrics, "for"], rows) if rows else ""


def many_goals(run: RunDirectory) -> bool:
    return len(run.experiment.score.goals) > 1


def leaders(run: RunDirectory, trials: Sequence[Trial], top: int) -> list[tuple[str, Trial]]:
    """The best trials, or the Pareto front of several goals, beside the untuned settings and the dense model.

    Settings that were tried more than once have the mean of their scores.
    """
    name, winners = ("front", front(trials)) if many_goals(run) else ("best", standings(trials)[:top])
    found = []
    for place, standing in enumerate(winners, 1):
        mean = f" (mean of {len(standing.trials)})" if len(standing.trials) > 1 else ""
        found.append((f"{name} {place}{mean}", replace(standing.trial, scores=standing.scores)))
    found += [("untuned", trial) for trial in [untuned(trials, run.experiment)] if trial]
    return found + [("dense", trial) for trial in trials if trial.role is Role.DENSE and trial.score is not None][:1]


def shown_metrics(trial: Trial) -> list[str]:
    """The metrics worth a column: numbers that are no notes of the training loop."""
    return [name for name, value in trial.metrics.items() if name not in NOTES and _is_number(value)]


def untuned(trials: Iterable[Trial], experiment: Experiment) -> Trial | None:
    """The first complete trial of the experiment file's own settings."""
    own = as_text(experiment.start({}))
    ran = (trial for trial in trials if trial.role is not Role.DENSE and trial.state is State.COMPLETE)
    return next((trial for trial in ran if as_text(trial.settings) == own), None)


if __name__ == "__main__":
    main()
