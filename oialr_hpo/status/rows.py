"""The trials of a search as CSV."""

import csv
from datetime import datetime, timezone
from typing import Any, TextIO

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import finite
from oialr_hpo.runs.summary import current


def write_csv(run: RunDirectory, file: TextIO) -> None:
    """One row per trial: what it was, how it ended, its settings and its scored metrics."""
    trials, experiment = current(run, run.alive), run.experiment
    keys = list(experiment.space.parameters)
    scores = [f"score:{name}" for name in experiment.score.metrics] if len(experiment.score.metrics) > 1 else ["score"]
    metrics = list(
        dict.fromkeys(name for trial in trials for name, value in trial.metrics.items() if _is_number(value))
    )
    known = ["number", "role", "state", "reason", "worker", "seed", "started", "seconds", "setup_seconds", "violation"]
    writer = csv.writer(file)
    writer.writerow([*known, *scores, *keys, *(f"metric:{name}" for name in metrics)])
    for trial in trials:
        row: list[Any] = [trial.number, trial.role.value, trial.state.value, trial.reason, trial.worker, trial.seed]
        row += [_time(trial.started), trial.seconds, trial.setup_seconds, trial.violation]
        row += trial.scores or [None] * len(scores)
        row += [trial.settings.get(key) for key in keys]
        row += [finite(trial.metrics.get(name)) for name in metrics]
        writer.writerow(row)


def _time(seconds: float) -> str:
    """A moment of `time.time()` in ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
