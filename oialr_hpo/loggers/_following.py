"""The trial files, followed: what they say that a logger has not heard yet, it is told, once."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oialr_hpo.files import write_whole
from oialr_hpo.loggers._logger import Logger
from oialr_hpo.mistake import described, one_line
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.events import Event, Events, parse, worker_of
from oialr_hpo.runs.fit import complete
from oialr_hpo.runs.history import History
from oialr_hpo.runs.trial import State, Trial

Told = tuple[int, float, str]
"""The attempt at a trial, its last epoch, and its state, as a logger has heard of them."""
Warn = Callable[[str], None]
NOTHING: Told = (0, 0, State.RUNNING.value)


class Following:
    """Reads what was appended to the trial files, tells the loggers, and remembers in `loggers.json` what it has told.

    Args:
        run: the run directory.
        loggers: by their names.
        warn: says a line to the user.
    """

    def __init__(self, run: RunDirectory, loggers: Mapping[str, Callable[[RunDirectory], Logger]], warn: Warn):
        self._run, self._experiment, self._warn = run, run.experiment, warn
        self._file = run.path / "loggers.json"
        self._read: dict[Path, int] = {}  # bytes of each trial file
        self._history = History()
        self._remembered = _remembered(self._file)
        self._listeners = [Listener(name, self._remembered.setdefault(name, {}), warn) for name in loggers]
        for listener, make in zip(self._listeners, loggers.values(), strict=True):
            listener.begin(make, run)

    def poll(self) -> None:
        """Tell what is new."""
        concerned: set[int] = set()
        for file in self._run.trial_files():
            concerned |= self._history.take(Events(worker_of(file), self._new(file), 0))
        for number in sorted(concerned):
            trial = self._history.trial(number)
            complete([trial], self._experiment)
            for listener in self._listeners:
                listener.hear(trial)
            if trial.state.final:
                self._history.forget(number)
        if concerned:
            self._remember()

    def end(self) -> None:
        """The search is over."""
        self.poll()
        for listener in self._listeners:
            listener.end()

    def _new(self, file: Path) -> list[Event]:
        """The events of the whole lines that a file has got since it was read."""
        with open(file, "rb") as opened:
            opened.seek(self._read.get(file, 0))
            content = opened.read()
        lines = content[: content.rfind(b"\n") + 1]
        self._read[file] = self._read.get(file, 0) + len(lines)
        return [event for line in lines.split(b"\n") if (event := parse(line))]

    def _remember(self) -> None:
        try:
            write_whole(self._file, json.dumps(self._remembered))
        except OSError as error:
            self._warn(f"{self._file} cannot be written: {error.strerror}; a resumed search may tell loggers twice")


class Listener:
    """One logger, and what it has been told; after an exception of its own it is told nothing more.

    Args:
        name: of the logger.
        told: by the trial's number, as text; it is kept up to date.
    """

    def __init__(self, name: str, told: dict[str, Told], warn: Warn):
        self._name, self._told, self._warn = name, told, warn
        self._logger: Logger | None = None
        self._open: set[int] = set()  # trials that have begun for this object

    def begin(self, make: Callable[[RunDirectory], Logger], run: RunDirectory) -> None:
        """Make the logger, and tell it that the search begins."""

        def made() -> None:
            self._logger = make(run)
            self._logger.search_begins()

        self._guarded(made)

    def hear(self, trial: Trial) -> None:
        """A trial as it is now."""
        self._guarded(lambda: self._tell(trial))

    def end(self) -> None:
        if self._logger:
            self._guarded(self._logger.search_ends)

    def _tell(self, trial: Trial) -> None:
        if self._logger is None:
            return
        key = str(trial.number)
        attempt, epoch, state = self._told.get(key, NOTHING)
        if trial.attempt > attempt and State(state).final:
            epoch = 0  # it is run again from its beginning
        new = [record for record in trial.epochs if record["epoch"] > epoch]
        if trial.attempt <= attempt and trial.state.value == state and not new:
            return
        if trial.number not in self._open:
            self._logger.trial_begins(trial, epoch)
            self._open.add(trial.number)
        self._told[key] = trial.attempt, epoch, State.RUNNING.value
        for record in new:
            self._logger.epoch(trial, record)
            self._told[key] = trial.attempt, record["epoch"], State.RUNNING.value
        if trial.state is not State.RUNNING:
            self._logger.trial_ends(trial)
            self._open.remove(trial.number)
            self._told[key] = *self._told[key][:2], trial.state.value

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:
            self._logger = None
            what = f"logger {self._name}: {described(error)}"
            self._warn(one_line(f"{what}; the search goes on without it, and --resume tells it the rest"))


def _remembered(file: Path) -> dict[str, dict[str, Told]]:
    """What earlier sessions told; nothing where the file is not there, or damaged."""
    try:
        content = json.loads(file.read_text())
        return {name: {key: _checked(*each) for key, each in told.items()} for name, told in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _checked(attempt: Any, epoch: Any, state: Any) -> Told:
    return int(attempt), float(epoch), State(state).value
