"""What a trial is, its states, and the run directory that holds trials.

The append-only files `trials/rank-*.jsonl` are the only truth: one JSON line per event, one file per worker,
one writer per file. Everything else is derived from them by `RunDirectory.trials`.
"""

import errno
import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any

from oialr_hpo.experiment import OF_THE_SEARCH, Bound, Experiment, Score, flatten
from oialr_hpo.space import SpaceError, Value


class State(str, Enum):
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"


class Role(str, Enum):
    """Why a trial was run: the dense model for comparison, a given start, or a proposal of the sampler."""

    DENSE = "dense"
    START = "start"
    PROPOSAL = "proposal"


class RunDirectoryError(RuntimeError):
    """The run directory cannot be used; the message says why and what to do."""


@dataclass
class Trial:
    """One evaluation of one point of the search space.

    `epochs` holds one record of metrics per epoch; `metrics` is the record that was scored and `best_epoch` the one
    with the lowest score. `scores` has one number per goal, all to be minimised. `violation` sums by how much the
    constraints are broken (0: feasible). `seconds` adds up the sessions of a trial that was interrupted.
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
    scores: list[float] = field(default_factory=list)
    violation: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    best_epoch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def score(self) -> float | None:
        """Of the first goal; None before the end."""
        return self.scores[0] if self.scores else None

    @property
    def finished(self) -> bool:
        return self.state not in (State.RUNNING, State.INTERRUPTED)

    @property
    def candidate(self) -> bool:
        """Whether the trial may be exported as the best: complete, feasible, and not the dense baseline."""
        return self.state is State.COMPLETE and self.violation == 0 and self.role is not Role.DENSE

    def add(self, record: dict[str, Any]) -> None:
        """Take in an epoch's record; one that was seen before replaces what came after a checkpoint."""
        record.setdefault("epoch", len(self.epochs) + 1)
        while self.epochs and self.epochs[-1]["epoch"] >= record["epoch"]:
            self.epochs.pop()
        self.epochs.append(record)

    def take_up(self, earlier: "Trial") -> None:
        """Go on from what an earlier session did of the same trial."""
        self.epochs, self.seconds = list(earlier.epochs), earlier.seconds

    def losses(self, goals: int, epochs: int) -> list[float]:
        """What samplers minimise, one number per goal.

        In this order: feasible trials by their scores; trials that were stopped early, those that came further in their
        `epochs` first; infeasible ones by how much they break the constraints; failures.
        """
        if self.state is State.COMPLETE:
            return self.scores if self.violation == 0 else [1e6 * (1 + self.violation)] * goals
        if self.state is State.PRUNED and self.scores:
            return [1e5 * (2 - self.epochs[-1]["epoch"] / epochs) + min(score, 1e3) for score in self.scores]
        return [1e12] * goals


def goals(record: Mapping[str, Any], settings: Score) -> list[float]:
    """Scores of one epoch's record: each metric, with one goal plus the weighted trainable share (1 = dense).

    Raises:
        KeyError: the record lacks a metric.
    """
    values = [float(record[name]) for name in settings.metrics]
    if settings.trainable_weight:
        values[0] += settings.trainable_weight * float(record["trainable_percent"]) / 100
    return values


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
    """Fill in the scores, the scored metrics and the best epoch of a trial that ran to its end.

    With `tested`, only the last record counts: it alone holds metrics of the test split.
    """
    if not trial.epochs:
        trial.state, trial.reason = State.FAILED, "the objective ended without a single record"
        return
    missing = [name for name in (*experiment.score.metrics, *experiment.constraints) if name not in trial.epochs[-1]]
    if missing:
        known = ", ".join(key for key, value in trial.epochs[-1].items() if isinstance(value, (int, float)))
        trial.state, trial.reason = State.FAILED, f"no metric {missing[0]!r} to score; known: {known}"
        return
    records = trial.epochs[-1:] if tested else trial.epochs
    scores = [_goals_if_measured(record, experiment.score) for record in records]
    best = min(range(len(scores)), key=lambda i: scores[i] if _finite_all(scores[i]) else [math.inf])
    chosen = best if experiment.score.epoch == "best" else len(scores) - 1
    trial.metrics, trial.best_epoch = records[chosen], records[best]
    if not _finite_all(scores[chosen]):
        shown = ", ".join(map(str, scores[chosen]))
        trial.state, trial.reason = State.FAILED, f"the score is {shown} at epoch {chosen + 1}"
        return
    trial.state, trial.scores = State.COMPLETE, scores[chosen]
    trial.violation = violation(trial.metrics, experiment.constraints)


def _goals_if_measured(record: Mapping[str, Any], settings: Score) -> list[float]:
    """The scores of an epoch; NaN where it was not measured, as an objective may do now and then only."""
    try:
        return goals(record, settings)
    except (KeyError, TypeError):
        return [math.nan] * len(settings.metrics)


def _finite_all(scores: Iterable[float]) -> bool:
    return all(map(math.isfinite, scores))


class TrialLog:
    """The append-only file of one worker. A torn last line of an earlier crash is closed before the first write.

    Raises:
        RunDirectoryError: by every method, where the file cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._cpu = time.process_time()
        try:
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 (open as long as the worker lives)
            if torn(path):
                self._file.write(b"\n")
        except OSError as error:
            raise unwritable(path, error) from None

    def start(self, trial: Trial) -> None:
        known = ("number", "role", "settings", "seed", "worker", "threads", "started")
        self._write({"event": "start"} | {key: getattr(trial, key) for key in known}, durable=False)

    def epoch(self, trial: Trial) -> None:
        """The trial's latest record; ranks are only written where they changed."""
        record = dict(trial.epochs[-1])
        if len(trial.epochs) > 1 and record.get("ranks") == trial.epochs[-2].get("ranks"):
            record.pop("ranks", None)
        self._write({"event": "epoch", "number": trial.number} | record, durable=False)

    def end(self, trial: Trial) -> None:
        known = ("number", "state", "reason", "scores", "violation", "metrics", "best_epoch", "seconds")
        self._write({"event": "end"} | {key: getattr(trial, key) for key in known}, durable=True)

    def opened(self) -> None:
        """Note that the worker is held from now on, for the utilization."""
        self._cpu = time.process_time()
        self._write({"event": "open"}, durable=True)

    def closed(self) -> None:
        """Note that the worker is no longer held, and what CPU time this process took meanwhile."""
        self._write({"event": "close", "cpu": time.process_time() - self._cpu}, durable=True)

    def close(self) -> None:
        self._file.close()

    def _write(self, content: Mapping[str, Any], durable: bool) -> None:
        line = (
            json.dumps(_finite(dict(content) | {"time": time.time()}), default=_plain, allow_nan=False).encode() + b"\n"
        )
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from None


def torn(path: Path) -> bool:
    """Whether the file's last line was cut off by a crash."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return size > 0 and file.read(1) != b"\n"


def unwritable(path: Path, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} cannot be written: {error.strerror}; mend that, or choose another --out; --resume goes on"
    )


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
class Span:
    """A worker was held, or ran a trial, between two times in `time.time()`."""

    worker: int
    trial: int | None
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Usage:
    """Seconds from the first event to the last, and summed over workers: held, spent on trials, and of CPU time of the
    processes that propose and keep the books."""

    elapsed: float
    held: float
    training: float
    overhead: float

    @property
    def utilization(self) -> float | None:
        """Share of the held time that was spent on trials."""
        return self.training / self.held if self.held > 0 else None


class RunDirectory:
    """`experiment.yaml`, `environment.yaml` and `trials/` of one search."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: IO[bytes] | None = None

    def __reduce__(self) -> tuple[type["RunDirectory"], tuple[Path]]:
        return RunDirectory, (self.path,)

    @classmethod
    def create(cls, path: Path, experiment: Experiment, environment: Mapping[str, Any], resume: bool) -> "RunDirectory":
        """Make the directory, or take it up again, and keep other searches out of it until `release`.

        Raises:
            RunDirectoryError: it holds a search and `resume` is false, its trials are not the experiment's, another
                search is running there, or it cannot be written.
        """
        import yaml  # here: of all ranks of a search only the first one writes these files

        run = cls(path)
        run.check_free(resume)
        if run.used:
            run.check_fits(experiment)
        try:
            run._claim()
            (path / "trials").mkdir(parents=True, exist_ok=True)
            for name, content in {"experiment.yaml": experiment.dump(), "environment.yaml": dict(environment)}.items():
                write_whole(path / name, yaml.safe_dump(content, sort_keys=False))
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

    def check_free(self, resume: bool) -> None:
        """Refuse a directory that holds a search, unless that is to be gone on with.

        Raises:
            RunDirectoryError: it does, and `resume` is false.
        """
        if self.used and not resume:
            raise RunDirectoryError(
                f"{self.path} already holds a search; add --resume to go on, or choose another --out"
            )

    @property
    def experiment(self) -> Experiment:
        return Experiment.model_validate(self._yaml("experiment.yaml"))

    @property
    def environment(self) -> dict[str, Any]:
        return self._yaml("environment.yaml")

    def check_fits(self, experiment: Experiment) -> None:
        """Refuse to mix trials of different experiments in one directory.

        The budget, the sampler and early stopping may change, and so may the search space, as long as every trial lies
        in it.

        Raises:
            RunDirectoryError: something else differs; the message lists it.
        """
        before, after = flatten(self.experiment.dump()), flatten(experiment.dump())
        differing = [key for key in before | after if before.get(key) != after.get(key)]
        fixed = [key for key in differing if key.split(".")[0] not in OF_THE_SEARCH]
        searched = [key for key in differing if key.split(".")[0] == "search"]
        if searched and not fixed:
            try:
                for trial in self.trials():
                    if trial.role is not Role.DENSE:
                        experiment.space.encode(trial.settings)
                return
            except SpaceError as error:
                why = f"trial {trial.number} is not in the new search space: {error}"
        elif fixed:
            why = "its trials were trained with other settings"
        else:
            return
        changes = "; ".join(f"{key} was {before.get(key)}, now {after.get(key)}" for key in fixed or searched)
        raise RunDirectoryError(f"{self.path}: {why} ({changes}); take these back, or choose another --out")

    def release(self) -> None:
        """Let other searches in."""
        if self._lock is not None:
            self._lock.close()

    def _claim(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / "lock", "ab")  # noqa: SIM115 (open as long as the search runs)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunDirectoryError(
                f"{self.path} is in use by a running search; wait, or choose another --out"
            ) from None
        except OSError:
            pass  # a file system without locks keeps nobody out

    def checkpoint(self, number: int) -> Path:
        """Where the unfinished training of a trial is kept."""
        return self.path / "checkpoints" / f"trial-{number:05d}.pt"

    def output(self, worker: int, replica: int = 0) -> Path:
        """Where what the training processes of a worker print is appended."""
        name = f"rank-{worker:04d}" + (f"-{replica}" if replica else "")
        return self.path / "logs" / f"{name}.log"

    def torn(self) -> list[Path]:
        """Trial files whose last line was cut off by a crash; it is not read, and closed by the next writer."""
        return [file for file in self._files() if torn(file)]

    def log(self, worker: int) -> TrialLog:
        return TrialLog(self.path / "trials" / f"rank-{worker:04d}.jsonl")

    def trials(self) -> list[Trial]:
        """All trials by number, as the events tell."""
        trials: dict[int, Trial] = {}
        for event in sorted(self._events(), key=lambda event: event["time"]):
            kind, _ = event.pop("event"), event.pop("time")
            if kind == "start":
                earlier = trials.get(event["number"])
                trials[event["number"]] = Trial(**event | {"role": Role(event["role"])})
                if earlier:
                    trials[event["number"]].take_up(earlier)
            elif kind == "epoch" and event["number"] in trials:
                trial = trials[event.pop("number")]
                trial.add(event)
                if "ranks" not in event and len(trial.epochs) > 1 and "ranks" in trial.epochs[-2]:
                    event["ranks"] = trial.epochs[-2]["ranks"]
            elif kind == "end" and event["number"] in trials:
                trial = trials[event.pop("number")]
                for key, value in event.items():
                    setattr(trial, key, State(value) if key == "state" else value)
        return [trials[number] for number in sorted(trials)]

    def spans(self) -> list["Span"]:
        """What every worker did and when, from the first event to the last."""
        events = {file: list(_read(file)) for file in self._files()}
        last = max((event["time"] for worker in events.values() for event in worker), default=0.0)
        found: list[Span] = []
        for file, worker in events.items():
            index = int(file.stem.removeprefix("rank-"))
            opened: float | None = None
            running: tuple[int, float] | None = None
            previous = 0.0
            for event in [*worker, {"event": "last", "time": last}]:
                kind = event["event"]
                if opened is not None and kind in ("open", "close", "last"):
                    ended = previous if kind == "open" else event["time"]  # a killed session ended at its last event
                    found.append(Span(index, None, opened, ended))
                    if running is not None:
                        found.append(Span(index, *running, ended))
                    opened = running = None
                if kind == "open":
                    opened = event["time"]
                elif kind == "start":
                    running = event["number"], event["started"]
                elif kind == "end" and running is not None:
                    found.append(Span(index, *running, event["time"]))
                    running = None
                previous = event["time"]
        return found

    def closed(self) -> bool:
        """Whether every worker has closed its file: the search has ended, for now."""
        last = [next(reversed(list(_read(file))), {"event": None})["event"] for file in self._files()]
        return bool(last) and all(event == "close" for event in last)

    def usage(self) -> "Usage":
        """How the time of the workers was used, up to the last event."""
        spans = self.spans()
        held = sum(span.seconds for span in spans if span.trial is None)
        training = sum(span.seconds for span in spans if span.trial is not None)
        elapsed = max((span.ended for span in spans), default=0.0) - min((span.began for span in spans), default=0.0)
        overhead = sum(event.get("cpu", 0.0) for event in self._events() if event["event"] == "close")
        return Usage(elapsed, held, training, overhead)

    def _files(self) -> list[Path]:
        return sorted((self.path / "trials").glob("rank-*.jsonl"))

    def _events(self) -> Iterator[dict[str, Any]]:
        for file in self._files():
            yield from _read(file)

    def _yaml(self, name: str) -> Any:
        import yaml

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
    for trial in sorted((t for t in trials if t.candidate), key=lambda t: (t.scores, t.number)):
        unique.setdefault(json.dumps(trial.settings, sort_keys=True), trial)
    return list(unique.values())[:count]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better (all goals are minimised)."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The candidates that no other dominates, by the first goal; with one goal, the best one."""
    front: list[Trial] = []
    for trial in best(trials, sys.maxsize):  # in this order a trial is only dominated by earlier ones
        if not any(dominates(other.scores, trial.scores) or other.scores == trial.scores for other in front):
            front.append(trial)
    return front
