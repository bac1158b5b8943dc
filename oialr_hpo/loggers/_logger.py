"""What a logger is: it passes a search's news on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import Trial


class Logger:
    """Hears the news of a search, in a process beside it that reads the trial files; what it leaves out is not heard.

    Calls come in the order of the trial files, each once over all sessions (what was told last may come again where the
    process was killed). Each session has its own object. An exception costs a warning and what this logger would have
    heard until the next session, which tells it.

    Attributes:
        needs: packages without which a search that names this logger does not begin.
        run: the run directory of the search.
        experiment: what is searched.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, run: RunDirectory):
        self.run = run
        self.experiment: Experiment = run.experiment

    def search_begins(self) -> None:
        """A session of the search begins."""

    def trial_begins(self, trial: Trial, told: float) -> None:
        """A trial begins, or goes on.

        Args:
            trial: its number, role, settings and seed.
            told: up to which epoch its records have been told; 0: from its beginning.
        """

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        """A trial has said something of an epoch, see `numbers`."""

    def trial_ends(self, trial: Trial) -> None:
        """A trial has ended; one that was interrupted or paused may go on."""

    def search_ends(self) -> None:
        """The session ends, with its last trial."""

    @property
    def path(self) -> Path:
        """The run directory's, from wherever one works."""
        return self.run.path.absolute()


def name(trial: Trial) -> str:
    """What a trial is called, such as trial-00003."""
    return f"trial-{trial.number:05d}"


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a record, without its epoch and what it says of single layers."""
    return {key: value for key, value in record.items() if isinstance(value, (int, float)) and key != "epoch"}


def results(trial: Trial, experiment: Experiment) -> dict[str, float]:
    """The score of a trial that has one; `score/METRIC` for each of several goals."""
    goals = list(experiment.score.metrics)
    names = ["score"] if len(goals) == 1 else [f"score/{goal}" for goal in goals]
    return dict(zip(names, trial.scores, strict=False))
