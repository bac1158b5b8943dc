"""What a trial is, its states, and the run directory that holds trials.

The append-only files `trials/rank-*.jsonl` are the only truth: one JSON line per event, one file per worker,
one writer per file. Everything else is derived from them by `RunDirectory.trials`.
"""

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from oialr_hpo.experiment import Bound, Experiment, Score
from oialr_hpo.space import Value


class State(str, Enum):
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Role(str, Enum):
    """Why a trial was run: the dense model for comparison, a given start, or a proposal of the sampler."""

    DENSE = "dense"
    START = "start"
    PROPOSAL = "proposal"


class RunDirectoryError(RuntimeError):
    """The run directory cannot be used; the message says why and what to do."""


@dataclass
class Assignment:
    """A trial before it runs: its number, counted over all workers, and what it is to try."""

    number: int
    role: Role
    settings: dict[str, Value]
    seed: int


@dataclass
class Trial:
    """One evaluation of one point of the search space.

    `epochs` holds one record of metrics per epoch; `metrics` is the record that was scored and `best_epoch` the one
    with the lowest score. `violation` sums by how much the constraints are broken (0: feasible).
    """

    number: int
    role: Role
    settings: dict[str, Value]
    seed: int
    worker: int
    threads: int = 1
    started: float = 0.0
    state: State = State.RUNNING
    reason: str | None = None
    score: float | None = None
    violation: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    best_epoch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.state not in (State.RUNNING, State.INTERRUPTED)

    @property
    def candidate(self) -> bool:
        """Whether the trial may be exported as the best: complete, feasible, and not the dense baseline."""
        return self.state is State.COMPLETE and self.violation == 0 and self.role is not Role.DENSE

    def loss(self) -> float:
        """What samplers minimise: the score, every infeasible trial behind every feasible one, failures last."""
        if self.state is not State.COMPLETE or self.score is None:
            return 1e12
        return self.score if self.violation == 0 else 1e6 * (1.0 + self.violation)


def score(record: Mapping[str, Any], settings: Score) -> float:
    """Score of one epoch's record: the metric plus the weighted trainable share (1 = the dense model)."""
    return float(record[settings.minimize]) + settings.trainable_weight * float(record["trainable_percent"]) / 100


def violation(record: Mapping[str, Any], constraints: Mapping[str, Bound]) -> float:
    """Sum over the constraints of the relative distance to the broken bound.

    Raises:
        KeyError: a constraint names a metric that the record lacks.
    """
    total = 0.0
    for name, bound in constraints.items():
        value = float(record[name])
        for limit, excess in ((bound.max, 1.0), (bound.min, -1.0)):
            if limit is not None:
                total += max(0.0, excess * (value - limit)) / max(abs(limit), 1e-12)
    return total


def judge(trial: Trial, experiment: Experiment, tested: bool = False) -> None:
    """Fill in the score, the scored metrics and the best epoch of a trial that ran to its end.

    With `tested`, only the last record counts: it alone holds metrics of the test split.
    """
    if not trial.epochs:
        trial.state, trial.reason = State.FAILED, "the objective ended without a single record"
        return
    missing = [name for name in (experiment.score.minimize, *experiment.constraints) if name not in trial.epochs[-1]]
    if missing:
        known = ", ".join(key for key, value in trial.epochs[-1].items() if isinstance(value, (int, float)))
        trial.state, trial.reason = State.FAILED, f"no metric {missing[0]!r} to score; known: {known}"
        return
    trial.epochs = trial.epochs[-1:] if tested else trial.epochs
    scores = [score(record, experiment.score) for record in trial.epochs]
    best = min(range(len(scores)), key=lambda i: scores[i] if math.isfinite(scores[i]) else math.inf)
    chosen = best if experiment.score.epoch == "best" else len(scores) - 1
    trial.metrics, trial.best_epoch = trial.epochs[chosen], trial.epochs[best]
    if not math.isfinite(scores[chosen]):
        trial.state, trial.reason = State.FAILED, f"the score is {scores[chosen]} at epoch {chosen + 1}"
        return
    trial.state, trial.score = State.COMPLETE, scores[chosen]
    trial.violation = violation(trial.metrics, experiment.constraints)


class TrialLog:
    """The append-only file of one worker. A torn last line of an earlier crash is closed before the first write."""

    def __init__(self, path: Path):
        self.path = path
        self._file = open(path, "ab+")  # noqa: SIM115 (open as long as the worker lives)
        if self._file.tell() > 0:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def start(self, trial: Trial) -> None:
        known = ("number", "role", "settings", "seed", "worker", "threads", "started")
        self._write({"event": "start"} | {key: getattr(trial, key) for key in known}, durable=False)

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        self._write({"event": "epoch", "number": trial.number} | dict(record), durable=False)

    def end(self, trial: Trial) -> None:
        known = ("number", "state", "reason", "score", "violation", "metrics", "best_epoch", "seconds")
        self._write({"event": "end"} | {key: getattr(trial, key) for key in known}, durable=True)

    def worker(self, event: str) -> None:
        """Note that the worker opened or closed: the time it was held, for the utilization."""
        self._write({"event": event}, durable=True)

    def close(self) -> None:
        self._file.close()

    def _write(self, content: Mapping[str, Any], durable: bool) -> None:
        line = json.dumps(_finite(dict(content) | {"time": time.time()}), default=_plain, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())


def _finite(value: Any) -> Any:
    """NaN and infinities, which JSON lacks, as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as plain numbers."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot be written as JSON")


@dataclass(frozen=True)
class Usage:
    """Seconds from the first event to the last, and summed over workers: held, and spent on trials."""

    elapsed: float
    held: float
    training: float

    @property
    def utilization(self) -> float | None:
        """Share of the held time that was spent on trials."""
        return self.training / self.held if self.held > 0 else None


class RunDirectory:
    """`experiment.yaml`, `environment.yaml` and `trials/` of one search."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: Path, experiment: Experiment, environment: Mapping[str, Any], resume: bool) -> "RunDirectory":
        """Make the directory, or take it up again.

        Raises:
            RunDirectoryError: it is in use and `resume` is false, it was made for other settings, or it cannot be
                written.
        """
        run = cls(path)
        if run.used and not resume:
            raise RunDirectoryError(f"{path} already holds a search; add --resume to go on, or choose another --out")
        if run.used:
            run.check_same(experiment)
        try:
            (path / "trials").mkdir(parents=True, exist_ok=True)
            write_whole(path / "experiment.yaml", yaml.safe_dump(experiment.dump(), sort_keys=False))
            write_whole(path / "environment.yaml", yaml.safe_dump(dict(environment), sort_keys=False))
        except OSError as error:
            raise RunDirectoryError(f"{path} cannot be written: {error.strerror}; choose another --out") from None
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run directory.

        Raises:
            RunDirectoryError: it holds no search.
        """
        run = cls(path)
        if not run.used:
            raise RunDirectoryError(f"{path} holds no search: there is no {path / 'experiment.yaml'}")
        return run

    @property
    def used(self) -> bool:
        return (self.path / "experiment.yaml").exists()

    @property
    def experiment(self) -> Experiment:
        return Experiment.model_validate(self._yaml("experiment.yaml"))

    @property
    def environment(self) -> dict[str, Any]:
        return self._yaml("environment.yaml")

    def check_same(self, experiment: Experiment) -> None:
        """Refuse to mix trials of different experiments in one directory.

        Raises:
            RunDirectoryError: something other than the budget changed.
        """
        before, after = self.experiment.dump(), experiment.dump()
        for key in before:
            if key not in ("trials", "time_limit") and before[key] != after[key]:
                raise RunDirectoryError(
                    f"{self.path} was made with {key}: {before[key]}, not {after[key]}; choose another --out"
                )

    def log(self, worker: int) -> TrialLog:
        return TrialLog(self.path / "trials" / f"rank-{worker:04d}.jsonl")

    def trials(self) -> list[Trial]:
        """All trials by number, as the events tell."""
        trials: dict[int, Trial] = {}
        for event in sorted(self._events(), key=lambda event: event["time"]):
            kind, _ = event.pop("event"), event.pop("time")
            if kind == "start":
                trials[event["number"]] = Trial(**event | {"role": Role(event["role"])})
            elif kind == "epoch" and event["number"] in trials:
                trials[event.pop("number")].epochs.append(event)
            elif kind == "end" and event["number"] in trials:
                trial = trials[event.pop("number")]
                for key, value in event.items():
                    setattr(trial, key, State(value) if key == "state" else value)
        return [trials[number] for number in sorted(trials)]

    def usage(self) -> "Usage":
        """How the time of the workers was used, up to the last event."""
        events = [list(_read(file)) for file in self._files()]
        times = [event["time"] for worker in events for event in worker]
        if not times:
            return Usage(0.0, 0.0, 0.0)
        held = training = 0.0
        for worker in events:
            opened: float | None = None
            running: float | None = None
            previous = 0.0
            for event in [*worker, {"event": "last", "time": max(times)}]:
                kind = event["event"]
                if opened is not None and kind in ("open", "close", "last"):
                    ended = previous if kind == "open" else event["time"]  # a killed session ended at its last event
                    held += ended - opened
                    training += ended - running if running is not None else 0.0
                    opened = running = None
                if kind == "open":
                    opened = event["time"]
                elif kind == "start":
                    running = event["started"]
                elif kind == "end":
                    training, running = training + event["seconds"], None
                previous = event["time"]
        return Usage(max(times) - min(times), held, training)

    def _files(self) -> list[Path]:
        return sorted((self.path / "trials").glob("rank-*.jsonl"))

    def _events(self) -> Iterator[dict[str, Any]]:
        for file in self._files():
            yield from _read(file)

    def _yaml(self, name: str) -> Any:
        return yaml.safe_load((self.path / name).read_text(encoding="utf-8"))


def _read(file: Path) -> Iterator[dict[str, Any]]:
    """The events of one worker; a line torn by a crash is not an event."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def best(trials: Iterable[Trial], count: int = 1) -> list[Trial]:
    """The `count` candidates with the lowest score, best first; equal settings count once."""
    unique: dict[str, Trial] = {}
    for trial in sorted((t for t in trials if t.candidate), key=lambda t: (t.score, t.number)):
        unique.setdefault(json.dumps(trial.settings, sort_keys=True), trial)
    return list(unique.values())[:count]
