"""The run directory that holds the trials of a search.

The append-only files `trials/rank-*.jsonl` are the only truth. Everything else is derived from them by
`RunDirectory.trials`.
"""

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oialr_hpo.experiment import OF_THE_SEARCH, Experiment, completed, flatten, recorded
from oialr_hpo.files import check_writable, write_whole
from oialr_hpo.mistake import Mistake, escaped, one_line
from oialr_hpo.runs import history, usage
from oialr_hpo.runs.environment import read as read_environment
from oialr_hpo.runs.events import Events, read
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.fit import complete, misfit
from oialr_hpo.runs.lease import Lease, Taken
from oialr_hpo.runs.log import TrialLog
from oialr_hpo.runs.rows import of_epochs, of_trials
from oialr_hpo.runs.trial import State, Trial
from oialr_hpo.runs.usage import Span, Usage

if TYPE_CHECKING:
    import pandas

TRIAL_FILE = re.compile(r"rank-[0-9]{1,9}\.jsonl")
"""The name of one; copies that people and programs make beside it are none."""


class RunDirectory:
    """`experiment.yaml`, `environment.yaml` and `trials/` of one search."""

    def __init__(self, path: Path):
        self.path = path
        self._lease = Lease(path)

    def __reduce__(self) -> tuple[type["RunDirectory"], tuple[Path]]:
        return RunDirectory, (self.path.absolute(),)  # other ranks may work elsewhere

    @classmethod
    def create(cls, path: Path, experiment: Experiment, environment: Mapping[str, Any], resume: bool) -> "RunDirectory":
        """Make the directory, or take it up again, and keep other searches out of it until `release`.

        Raises:
            RunDirectoryError: it holds a search and `resume` is false, its trials are not the experiment's, another
                search is running there, or it cannot be written.
        """
        from oialr_hpo.experiment import (
            strict_yaml,  # here: of all ranks of a search only the first one writes these files
        )

        run = cls(path)
        run.check_free(resume)
        if run.used:
            run.check_fits(experiment)
        try:
            run._claim()
            (path / "trials").mkdir(parents=True, exist_ok=True)
            run._conclusion.unlink(missing_ok=True)
            for name, content in {"experiment.yaml": experiment.dump(), "environment.yaml": dict(environment)}.items():
                write_whole(path / name, strict_yaml.dump(content))
        except OSError as error:
            raise RunDirectoryError(f"{path} cannot be written: {error.strerror}; choose another --out") from None
        run._tell_damage()
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run directory.

        Raises:
            RunDirectoryError: it holds no search, or what it says of it is damaged.
        """
        run = cls(path)
        if not run.used:
            raise RunDirectoryError(f"{path} holds no search: there is no {path / 'experiment.yaml'}")
        _ = run.experiment, run.environment  # refused before anything is made of them
        run._tell_damage()
        return run

    @property
    def name(self) -> str:
        """What the search is called, wherever it is looked at from."""
        return escaped(self.path.resolve().name)

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
        if resume and not any((self.path / name).exists() for name in ("experiment.yaml", "lock")):
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
        return f" near: {', '.join(str(self.path.parent / name) for name in near)};" if near else ""

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
        return read_environment(self.path / "environment.yaml")

    def check_fits(self, experiment: Experiment) -> None:
        """Refuse to mix trials of different experiments in one directory.

        The budget, the sampler and early stopping may change, where settings come from, sections of methods that no
        trial is trained with, and the search space, as long as every trial lies in it: one that ran before a setting
        was searched had the file's own value. Of the objective, which older directories do not name,
        `oialr_hpo.engines.plan` sees to that.

        Raises:
            RunDirectoryError: something else differs; the message lists it.
        """
        earlier = completed(self.experiment)
        before, after = flatten(earlier.dump()), flatten(experiment.dump())
        free = {*OF_THE_SEARCH, "objective", "evidence", *earlier.other_methods, *experiment.other_methods}
        differing = [key for key in before | after if before.get(key) != after.get(key)]
        fixed = [key for key in differing if key.split(".")[0] not in free]
        if fixed:
            why: str | None = "its trials were trained with other settings"
        else:
            why = misfit(self.trials(), experiment)
        if why:
            changes = fixed or [key for key in differing if key.split(".")[0] == "search"]
            listed = "; ".join(f"{key} was {before.get(key)}, now {after.get(key)}" for key in changes)
            listed = f" ({listed})" if listed else ""
            raise RunDirectoryError(f"{self.path}: {why}{listed}; take these back, or choose another --out")

    def release(self) -> None:
        """Let other searches in."""
        self._lease.release()

    def _claim(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lease.claim()
        except Taken:
            raise RunDirectoryError(
                f"{self.path} is in use by a running search; wait, or choose another --out"
            ) from None

    @property
    def alive(self) -> bool:
        """Whether a process is running this search now."""
        return self._lease.held

    @property
    def abandoned(self) -> float | None:
        """When the search was last seen, in time.time(), if it ended without a word; else None."""
        if not self._lease.abandoned:
            return None
        return max(file.stat().st_mtime for file in (self._lease.path, *self.trial_files()))

    def conclude(self, why: str) -> None:
        """Note why the search ends before its budget."""
        write_whole(self._conclusion, f"{why}\n")

    @property
    def concluded(self) -> str | None:
        """Why the search ended before its budget, if it did."""
        return self._conclusion.read_text().strip() if self._conclusion.exists() else None

    @property
    def _conclusion(self) -> Path:
        return self.path / "ended_early.txt"

    def checkpoint(self, number: int) -> Path:
        """Where the unfinished training of a trial is kept."""
        return self.path / "checkpoints" / f"trial-{number:05d}.pt"

    def weights(self, number: int) -> Path:
        """Where the network of a trial is kept."""
        return self.path / "weights" / f"trial-{number:05d}.safetensors"

    def output(self, worker: int, replica: int = 0) -> Path:
        """Where what the training processes of a worker print is appended."""
        name = f"rank-{worker:04d}" + (f"-{replica}" if replica else "")
        return self.path / "logs" / f"{name}.log"

    def _tell_damage(self) -> None:
        """Say in a line how much of the trial files cannot be read, if anything."""
        counts = {file.name: read(file).damaged for file in self.trial_files()}
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
        if listed:
            print(one_line(f"{self.path / 'trials'}: cut off or damaged lines left out: {listed}"), file=sys.stderr)

    def log(self, worker: int) -> TrialLog:
        return TrialLog(self.path / "trials" / f"rank-{worker:04d}.jsonl")

    def trials(self) -> list[Trial]:
        """All trials by number, as the events tell, each with a value of every setting that is searched now.

        One that was paused and has no checkpoint any more cannot go on: it is pruned.
        """
        found = history.trials(self._events())
        for trial in found:
            if trial.state is State.PAUSED and not self.checkpoint(trial.number).exists():
                trial.state = State.PRUNED
        if found and self.used:
            complete(found, self.experiment)
        return found

    def to_dataframe(self) -> "pandas.DataFrame":
        """A row per trial: what it was, how it ended, its settings and, as `metric:NAME`, its scored metrics.

        Raises:
            Mistake: pandas is not installed.
        """
        return of_trials(self.trials(), self.experiment).to_dataframe()

    def curves(self) -> "pandas.DataFrame":
        """A row per epoch of every trial, with the numbers of its record.

        Raises:
            Mistake: pandas is not installed.
        """
        return of_epochs(self.trials()).to_dataframe()

    def spans(self) -> list[Span]:
        """What every worker did and when, up to its last event."""
        return usage.spans(self._events())

    def usage(self) -> Usage:
        """How the time of the workers was used, up to the last event of each."""
        return usage.usage(self._events())

    def trial_files(self) -> list[Path]:
        """The append-only files of the workers."""
        files = (self.path / "trials").glob("rank-*.jsonl")
        return sorted(file for file in files if TRIAL_FILE.fullmatch(file.name))

    def _events(self) -> list[Events]:
        return [read(file) for file in self.trial_files()]

    def _yaml(self, name: str) -> Any:
        from oialr_hpo.experiment import strict_yaml

        return strict_yaml.read(self.path / name)
