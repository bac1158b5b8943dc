"""The run directory that holds the trials of a search.

The append-only files `trials/rank-*.jsonl` are the only truth. Everything else is derived from them by
`RunDirectory.trials`.
"""

import difflib
import fcntl
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from oialr_hpo.experiment import OF_THE_SEARCH, Experiment, flatten, recorded
from oialr_hpo.files import check_writable
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.files import RunDirectoryError, torn, write_whole
from oialr_hpo.runs.log import TrialLog, read
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.runs.usage import Span, Usage
from oialr_hpo.space import SpaceError

UNKNOWN: dict[str, Any] = {"command": "unknown", "workers": 1, "python": "unknown", "packages": {}}
"""What an environment says at least."""


class RunDirectory:
    """`experiment.yaml`, `environment.yaml` and `trials/` of one search."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: IO[bytes] | None = None

    def __reduce__(self) -> tuple[type["RunDirectory"], tuple[Path]]:
        return RunDirectory, (self.path.absolute(),)  # other ranks may work elsewhere

    @classmethod
    def create(cls, path: Path, experiment: Experiment, environment: Mapping[str, Any], resume: bool) -> "RunDirectory":
        """Make the directory, or take it up again, and keep other searches out of it until `release`.

        Raises:
            RunDirectoryError: it holds a search and `resume` is false, its trials are not the experiment's, another
                search is running there, or it cannot be written.
        """
        from oialr_hpo import strict_yaml  # here: of all ranks of a search only the first one writes these files

        run = cls(path)
        run.check_free(resume)
        if run.used:
            run.check_fits(experiment)
        try:
            run._claim()
            (path / "trials").mkdir(parents=True, exist_ok=True)
            for name, content in {"experiment.yaml": experiment.dump(), "environment.yaml": dict(environment)}.items():
                write_whole(path / name, strict_yaml.dump(content))
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
        """Refuse a directory that holds a search, unless that is to be gone on with, and one that cannot be written.

        Raises:
            RunDirectoryError: it holds one and `resume` is false, or none and `resume` is true, or cannot be written.
        """
        if self.used and not resume:
            raise RunDirectoryError(
                f"{self.path} already holds a search; add --resume to go on, or choose another --out"
            )
        if resume and not any((self.path / name).exists() for name in ("experiment.yaml", "lock", "probe.yaml")):
            raise RunDirectoryError(
                f"{self.path} holds no search to go on with;{self._near()} leave out --resume to begin one"
            )
        try:
            check_writable(self.path, directory=True, remedy="choose another --out")
        except Mistake as error:
            raise RunDirectoryError(str(error)) from None

    def _near(self) -> str:
        """Run directories beside this one, the likeliest first."""
        if not self.path.parent.is_dir():
            return ""
        names = sorted(file.parent.name for file in self.path.parent.glob("*/experiment.yaml"))
        near = difflib.get_close_matches(self.path.name, names, n=3, cutoff=0.5) or names[:3]
        return f" near: {', '.join(str(self.path.with_name(name)) for name in near)};" if near else ""

    @property
    def experiment(self) -> Experiment:
        """What was searched.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        try:
            return recorded(self._yaml("experiment.yaml"), str(self.path / "experiment.yaml"))
        except Mistake as error:
            raise RunDirectoryError(f"{error}; restore the file, or choose another run directory") from None

    @property
    def environment(self) -> dict[str, Any]:
        """Where and with what; what is not noted there is unknown.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        file = self.path / "environment.yaml"
        if not file.exists():
            return dict(UNKNOWN)
        try:
            noted = self._yaml(file.name)
        except Mistake as error:
            raise RunDirectoryError(f"{error}; restore the file, or remove it") from None
        found = UNKNOWN | noted if isinstance(noted, dict) else {}
        fits = {key: isinstance(found.get(key), type(value)) for key, value in UNKNOWN.items()}
        fits["workers"] = fits["workers"] and found["workers"] > 0
        fits["deadline"] = isinstance(found.get("deadline"), (int, float, type(None)))
        if not all(fits.values()):
            key = next(key for key, fit in fits.items() if not fit)
            raise RunDirectoryError(f"{file}: damaged, as its {key} tells; restore the file, or remove it")
        return found

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

    def spans(self) -> list[Span]:
        """What every worker did and when, from the first event to the last."""
        events = {file: list(read(file)) for file in self._files()}
        last = max((event["time"] for worker in events.values() for event in worker), default=0.0)
        found: list[Span] = []
        for file, worker in events.items():
            index = int(file.stem.removeprefix("rank-"))
            opened: float | None = None
            running: tuple[int, float] | None = None
            setup = math.inf  # of the running trial, until its first record tells
            previous = 0.0
            for event in [*worker, {"event": "last", "time": last}]:
                kind = event["event"]
                if opened is not None and kind in ("open", "close", "last"):
                    ended = previous if kind == "open" else event["time"]  # a killed session ended at its last event
                    found.append(Span(index, None, opened, ended))
                    if running is not None:
                        found.append(Span(index, *running, ended, setup))
                    opened = running = None
                if kind == "open":
                    opened = event["time"]
                elif kind == "start":
                    running, setup = (event["number"], event["started"]), math.inf
                elif kind == "epoch" and setup == math.inf:
                    setup = event.get("setup_seconds", 0.0)
                elif kind == "end" and running is not None:
                    found.append(Span(index, *running, event["time"], setup))
                    running = None
                previous = event["time"]
        return found

    def closed(self) -> bool:
        """Whether every worker has closed its file: the search has ended, for now."""
        last = [next(reversed(list(read(file))), {"event": None})["event"] for file in self._files()]
        return bool(last) and all(event == "close" for event in last)

    def usage(self) -> Usage:
        """How the time of the workers was used, up to the last event."""
        spans = self.spans()
        held = sum(span.seconds for span in spans if span.trial is None)
        training = sum(span.training() for span in spans if span.trial is not None)
        elapsed = max((span.ended for span in spans), default=0.0) - min((span.began for span in spans), default=0.0)
        overhead = sum(event.get("cpu", 0.0) for event in self._events() if event["event"] == "close")
        return Usage(elapsed, held, training, overhead)

    def _files(self) -> list[Path]:
        return sorted((self.path / "trials").glob("rank-*.jsonl"))

    def _events(self) -> Iterator[dict[str, Any]]:
        for file in self._files():
            yield from read(file)

    def _yaml(self, name: str) -> Any:
        from oialr_hpo import strict_yaml

        return strict_yaml.read(self.path / name)
