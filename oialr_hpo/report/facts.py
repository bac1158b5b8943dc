"""What the charts and tables of one search share."""

from dataclasses import dataclass
from functools import cached_property
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

import optuna

from oialr_hpo.experiment import Experiment
from oialr_hpo.report import study
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.leaders import untuned
from oialr_hpo.runs.ranking import best, pareto_front
from oialr_hpo.runs.summary import current
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.runs.usage import Span

TOP = 3  # winners, of which more is shown


class NothingToDraw(Exception):
    """The search lacks what a chart shows; the message says what."""


@dataclass(frozen=True)
class Facts:
    """What the charts of one search share."""

    run: RunDirectory
    out: Path | None = None  # where the page lies; None: in the run directory

    @cached_property
    def experiment(self) -> Experiment:
        return self.run.experiment

    @cached_property
    def trials(self) -> list[Trial]:
        return current(self.run, self.run.alive)

    def log(self, trial: Trial) -> str | None:
        """Where a page finds what the worker of a trial printed, if it did: a relative URL."""
        file = self.run.output(trial.worker)
        return quote(relpath(file.resolve(), (self.out or self.run.path).resolve())) if file.exists() else None

    @cached_property
    def spans(self) -> list[Span]:
        """When trials ran."""
        return [span for span in self.run.spans() if span.trial is not None]

    @cached_property
    def searched(self) -> list[Trial]:
        """All but the dense baseline, which is no point of the search space."""
        return [trial for trial in self.trials if trial.role is not Role.DENSE]

    @cached_property
    def complete(self) -> list[Trial]:
        return [trial for trial in self.searched if trial.state is State.COMPLETE]

    @cached_property
    def dense(self) -> Trial | None:
        return next((t for t in self.trials if t.role is Role.DENSE and t.state is State.COMPLETE), None)

    @cached_property
    def untuned(self) -> Trial | None:
        return untuned(self.complete, self.experiment)

    @cached_property
    def winners(self) -> list[Trial]:
        """The best trials, or with several goals some of the Pareto front."""
        if len(self.goals) == 1:
            return best(self.trials, TOP)
        front = pareto_front(self.trials)
        return [front[i] for i in sorted({0, len(front) // 2, len(front) - 1})] if front else []

    @cached_property
    def goals(self) -> study.Aims:
        return study.own_aims(self.experiment)

    @cached_property
    def study(self) -> optuna.Study:
        """Of everything but the dense baseline."""
        return study.derive(self.searched, self.experiment)

    @cached_property
    def keys(self) -> list[str]:
        """Of what is searched."""
        return list(self.experiment.space.parameters)

    @cached_property
    def tried(self) -> list[str]:
        """Of what a complete trial had searched beside its other settings."""
        return [key for key in self.keys if any(key in trial.settings for trial in self.complete)]

    @cached_property
    def conditional(self) -> bool:
        """Whether some settings are searched only where others have certain values."""
        return bool(self.experiment.space.conditions)
