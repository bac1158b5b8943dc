"""`python -m oialr_hpo.status RUN`: how a running or finished search stands."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.progress import clock, table
from oialr_hpo.trial import Role, RunDirectory, RunDirectoryError, State, Trial, best

# What the training loop notes beside the metrics.
NOTES = ("epoch", "step", "lr", "train_loss", "data_wait", "device", "ranks", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m oialr_hpo.status", description=__doc__.split(": ")[1])
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a search")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        run = RunDirectory.open(options.run)
    except RunDirectoryError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(status(run), indent=2) if options.json else summary(run))


def status(run: RunDirectory) -> dict[str, Any]:
    """Trials by state, the best so far, time used, and the share of worker time spent on trials."""
    trials, usage = run.trials(), run.usage()
    states = Counter(trial.state for trial in trials)
    winner = best(trials)
    return {
        "trials": {state.value: states[state] for state in State},
        "budget": run.experiment.trials,
        "workers": run.environment["workers"],
        "seconds": usage.elapsed,
        "utilization": usage.utilization,
        "best": _best(winner[0]) if winner else None,
    }


def _best(trial: Trial) -> dict[str, Any]:
    return {"number": trial.number, "score": trial.score, "settings": trial.settings, "metrics": trial.metrics}


def summary(run: RunDirectory, top: int = 3) -> str:
    """The same for people: the best trials beside the untuned settings and the dense model."""
    trials, usage, experiment = run.trials(), run.usage(), run.experiment
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{states[state]} {state.value}" for state in State if states[state]) or "none started"
    used = "" if usage.utilization is None else f", {usage.utilization:.0%} of worker time spent training"
    lines = [f"{run.path}: {counts} of {experiment.trials} trials in {clock(usage.elapsed)}{used}"]
    reasons = Counter(trial.reason for trial in trials if trial.state is State.FAILED)
    lines += [f"  failed {count} x: {reason}" for reason, count in reasons.most_common()]

    winners = best(trials, top)
    compared = [(f"best {place}", trial) for place, trial in enumerate(winners, 1)]
    compared += [("untuned", trial) for trial in trials if _is_untuned(trial, experiment)][:1]
    compared += [("dense", trial) for trial in trials if trial.role is Role.DENSE and trial.score is not None][:1]
    if compared:
        shown = [name for name in compared[0][1].metrics if name not in NOTES]
        rows = [
            [name, trial.number, trial.score, *(trial.metrics.get(metric) for metric in shown), trial.seconds]
            for name, trial in compared
        ]
        lines += ["", table(["", "trial", "score", *shown, "seconds"], rows)]
    if winners:
        untuned = {key: experiment.value(key) for key in experiment.search}
        rows = [[key, value, untuned[key]] for key, value in winners[0].settings.items()]
        lines += ["", table(["setting", "best", "untuned"], rows)]
    elif states[State.COMPLETE]:
        lines += ["", "no trial meets the constraints yet"]
    return "\n".join(lines)


def _is_untuned(trial: Trial, experiment: Experiment) -> bool:
    """Whether a trial ran the experiment file's own settings."""
    own = {key: experiment.value(key) for key in experiment.search}
    return trial.role is not Role.DENSE and trial.score is not None and trial.settings == own


if __name__ == "__main__":
    main()
