"""The trials that events tell of.

What is known of the order of events is their order within one file, and the number of the attempt at a trial that each
start carries: an attempt begins where the ones before it are known. The clocks of machines are not compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from oialr_hpo.methods import OF_LAYERS
from oialr_hpo.runs.events import Event, Events
from oialr_hpo.runs.trial import Role, State, Trial


@dataclass
class Attempt:
    """One part of a trial, without a break: its start, its epochs and its end, if it came to one."""

    start: Event
    epochs: list[Event] = field(default_factory=list)
    end: Event | None = None

    @property
    def order(self) -> tuple[float, ...]:
        """By number. Files of older versions lack it: there one that finished the trial was the last, and one that
        came further came later."""
        finished = self.end is not None and State(self.end["state"]).finished
        last = self.epochs[-1].get("epoch", len(self.epochs)) if self.epochs else 0
        return self.start.get("attempt") or 0, finished, last, self.end is not None


class History:
    """Trials whose events come in pieces: of whole files, or what was appended to them meanwhile."""

    def __init__(self) -> None:
        self._attempts: dict[int, list[Attempt]] = {}
        self._latest: dict[tuple[int, int], Attempt] = {}  # by worker and trial

    def take(self, file: Events) -> set[int]:
        """Add what a worker wrote after what it wrote before; the numbers of the trials that this concerns."""
        concerned = set()
        for event in file.events:
            kind, key = event["event"], (file.worker, event.get("number", -1))
            if kind == "start":
                self._latest[key] = attempt = Attempt(event)
                self._attempts.setdefault(event["number"], []).append(attempt)
            elif kind in ("epoch", "end") and key in self._latest:
                attempt = self._latest[key]
                if kind == "epoch":
                    attempt.epochs.append(event)
                else:
                    attempt.end = event
            else:
                continue
            concerned.add(event["number"])
        return concerned

    @property
    def numbers(self) -> list[int]:
        """Of the trials, in order."""
        return sorted(self._attempts)

    def trial(self, number: int) -> Trial:
        return _trial(sorted(self._attempts[number], key=lambda attempt: attempt.order))

    def forget(self, number: int) -> None:
        """A trial that has ended; one that begins again is taken for new."""
        del self._attempts[number]
        self._latest = {key: attempt for key, attempt in self._latest.items() if key[1] != number}


def trials(files: Iterable[Events]) -> list[Trial]:
    """All trials, by number."""
    history = History()
    for file in files:
        history.take(file)
    return [history.trial(number) for number in history.numbers]


def _trial(attempts: list[Attempt]) -> Trial:
    trial: Trial | None = None
    for count, attempt in enumerate(attempts, 1):
        known = ("number", "settings", "seed", "worker", "threads", "started")
        about = {key: attempt.start[key] for key in known if attempt.start.get(key) is not None}
        begun = Trial(**about, role=Role(attempt.start["role"]), attempt=attempt.start.get("attempt") or count)
        if trial and not trial.state.final:  # else it was run again from its beginning
            begun.take_up(trial)
        trial = begun
        for event in attempt.epochs:
            _add(trial, event)
        if attempt.end:
            _end(trial, attempt.end)
    assert trial is not None
    return trial


def _add(trial: Trial, event: Event) -> None:
    """Take in an epoch's record; what is left of layers is only written where it changed."""
    record = {key: value for key, value in event.items() if key not in ("event", "number", "time", "clock")}
    trial.add(record)
    if len(trial.epochs) > 1:
        before = trial.epochs[-2]
        record.update({kind: before[kind] for kind in OF_LAYERS if kind in before and kind not in record})


def _end(trial: Trial, event: Event) -> None:
    trial.state = State(event["state"])
    for key in ("reason", "scores", "signs", "violation", "metrics", "best_epoch", "seconds", "setup_seconds"):
        if event.get(key) is not None:
            setattr(trial, key, event[key])
