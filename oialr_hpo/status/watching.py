"""A search watched until no process runs it any more."""

import time
from collections.abc import Sequence
from typing import Any, TextIO

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import clock, describe, table
from oialr_hpo.runs.summary import current, summary
from oialr_hpo.runs.trial import State, Trial


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
