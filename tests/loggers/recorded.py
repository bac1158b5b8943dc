"""Loggers for tests: one that writes down what it hears, and one that raises."""

from collections.abc import Mapping
from typing import Any

from oialr_hpo.loggers import Logger
from oialr_hpo.runs import Trial


class Notebook(Logger):
    """A line of `heard.txt` in the run directory for each call."""

    def note(self, *words: object) -> None:
        with open(self.path / "heard.txt", "a") as file:
            print(*words, file=file)

    def search_begins(self) -> None:
        self.note("search begins")

    def trial_begins(self, trial: Trial, told: float) -> None:
        self.note("begin", trial.number, int(told))

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        self.note("epoch", trial.number, int(record["epoch"]))

    def trial_ends(self, trial: Trial) -> None:
        self.note("end", trial.number, trial.state.value, sorted(trial.settings) == sorted(self.experiment.search))

    def search_ends(self) -> None:
        self.note("search ends")


class Broken(Notebook):
    """Fails in the second epoch of each trial until the file `mended` is there."""

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        if record["epoch"] == 2 and not (self.path / "mended").exists():
            raise RuntimeError("no more ink")
        super().epoch(trial, record)


class WrongCall(Logger):
    def epoch(self, trial: Trial) -> None:  # type: ignore[override]
        pass
