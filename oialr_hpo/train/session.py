"""Trainings kept on disk: a run directory like a search's, whose trials are the seeds."""

import shlex
import sys
from collections.abc import Container, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from oialr_hpo.engines.environment import environment
from oialr_hpo.engines.listening import listening
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.log import TrialLog
from oialr_hpo.runs.trial import Role, Trial


@dataclass
class Session:
    """A run directory that trainings are kept in, and the signals that interrupt them."""

    run: RunDirectory
    stop: StopRequest
    log: TrialLog
    trials: list[Trial]
    _listening: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def open(
        cls,
        out: Path,
        experiment: Experiment,
        seeds: Iterable[int],
        arguments: Sequence[str] | None,
        resume: bool,
        retry: Container[str] = (),
    ) -> "Session":
        """A run directory which `status` and `figures` read like a search's, of as many trials as seeds.

        Args:
            out: the directory, which `resume` goes on with.
            arguments: of the command; None: those of this process.
            retry: states of earlier trainings that are run again.

        Raises:
            RunDirectoryError: `out` is used and `resume` is false, its trainings are others, or it cannot be written.
        """
        given = sys.argv[1:] if arguments is None else arguments
        command = shlex.join(["python", "-m", "oialr_hpo.train", *given])
        known = {trial.seed for trial in RunDirectory(out).trials()} | set(seeds)
        experiment = experiment.model_copy(update={"trials": len(known)})
        run = RunDirectory.create(out, experiment, environment(1, 1) | {"command": command}, resume)
        trials = [trial.again() if trial.state.value in retry else trial for trial in run.trials()]
        return cls(run, StopRequest(), run.log(0), trials)

    def __enter__(self) -> None:
        self.stop.__enter__()
        self._listening.enter_context(listening(self.run))

    def __exit__(self, *_: object) -> None:
        self.stop.__exit__()
        self.log.close()
        self._listening.close()
        self.run.release()

    def has_ended(self, seed: int) -> bool:
        """Whether an earlier session has finished the training with this seed."""
        return any(trial.seed == seed and trial.finished for trial in self.trials)

    def trial(self, seed: int, threads: int) -> Trial:
        """The training with this seed, begun or new."""
        for trial in self.trials:
            if trial.seed == seed:
                trial.attempt += 1
                return trial
        number = max((trial.number for trial in self.trials), default=-1) + 1
        self.trials.append(new_trial(number, seed, threads))
        return self.trials[-1]


def new_trial(number: int, seed: int, threads: int) -> Trial:
    """A training as a trial of a search that tries the file's own settings."""
    return Trial(number=number, role=Role.START, settings={}, seed=seed, worker=0, threads=threads)
