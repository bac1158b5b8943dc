"""A search watched until no process runs it any more."""

import os
import time
from collections.abc import Sequence
from typing import TextIO

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import clock, describe, table
from oialr_hpo.runs.summary import current, summary
from oialr_hpo.runs.trial import Trial
from oialr_hpo.status.state import running_trials


def watch(run: RunDirectory, file: TextIO, every: float = 2.0) -> None:
    """Show how a search stands until no process runs it any more.

    On a terminal the screen is drawn anew every so many seconds. Elsewhere, in a log file, on one that cannot do that
    (`TERM=dumb`) or is not to (`NO_COLOR`), a line is written for every trial that ended.
    """
    seen: dict[int, int] = {}  # attempts
    drawn = file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    while True:
        over = not run.alive
        trials = current(run, not over)
        if drawn:
            file.write(f"\x1b[H\x1b[2J{summary(run)}\n\n{running(run, trials)}\n")
        else:
            for trial in trials:
                if trial.finished and seen.get(trial.number) != trial.attempt:
                    seen[trial.number] = trial.attempt
                    file.write(f"[{len(seen)}/{run.experiment.trials}] {describe(trial)}\n")
            if over:
                file.write(f"\n{summary(run)}\n")
        file.flush()
        if over:
            return
        time.sleep(every)


def running(run: RunDirectory, trials: Sequence[Trial]) -> str:
    """The trials that are being trained, as a table."""
    rows = running_trials(run, trials)
    for row in rows:
        row["epoch"] = f"{row['epoch']}/{row.pop('epochs')}"
        left = row.pop("seconds_left")
        row |= {"seconds": clock(row["seconds"]), "left": None if left is None else f"about {clock(left)}"}
    renamed = {"number": "running", "role": "", "worker": "rank", "seconds": "for"}
    return table([renamed.get(name, name) for name in rows[0]], [[*row.values()] for row in rows]) if rows else ""
