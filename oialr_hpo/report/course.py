"""The course of one training as its records tell it: a metric of validation, training and test, and the change-over."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from statistics import fmean
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.score import Goal
from oialr_hpo.methods import name_of
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs import layers as layers_of
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import Role, Trial

Points = list[tuple[int, float]]
"""Epochs, and what was measured after them."""


@dataclass(frozen=True)
class Course:
    """A trial of a run directory."""

    run: RunDirectory
    trial: Trial

    @cached_property
    def experiment(self) -> Experiment:
        return self.run.experiment

    @property
    def name(self) -> str:
        return f"{self.run.name}, trial {self.trial.number}, seed {self.trial.seed}"

    @property
    def method(self) -> str:
        if self.trial.role is Role.DENSE:
            return "dense"
        return name_of(str(self.trial.settings.get("method", self.experiment.method)))

    @property
    def goal(self) -> Goal:
        """What it is judged by: the first goal of its experiment; for an error the accuracy that is one minus it."""
        goal = self.experiment.score.goals[0]
        return Goal("top1", "maximize") if goal.metric == "error" and self.measured("top1") else goal

    @property
    def change_over(self) -> int | None:
        """The first epoch that ended with a smaller network."""
        return next((record["epoch"] for record in self.trial.epochs if layers_of.kept(record)), None)

    def measured(self, name: str) -> Points:
        """A number of the records."""
        return _points((record["epoch"], record.get(name)) for record in self.trial.epochs)

    def validated(self, metric: str) -> Points:
        """Of the validation split, which a record of the test split holds apart."""
        return _points((record["epoch"], _validation(record).get(metric)) for record in self.trial.epochs)

    def tested(self, metric: str) -> Points:
        """Of the test split, after the last epoch."""
        return _points((record["epoch"], record.get(metric)) for record in self.trial.epochs if "validation" in record)

    def trained(self, metric: str) -> Points:
        """Of the batches of the epoch, while it went on: recorded as such, or the loss, where that is the metric."""
        is_loss = self.measured(metric) == self.measured("loss")
        return self.measured(f"train_{metric}") or (self.measured("train_loss") if is_loss else [])

    @property
    def stability(self) -> Points:
        """The mean over the layers, where weights are tracked."""
        tables = [(record["epoch"], record.get("stability")) for record in self.trial.epochs]
        layers = [(epoch, _points(each.items())) for epoch, each in tables if isinstance(each, Mapping)]
        return [(epoch, fmean(value for _, value in values)) for epoch, values in layers if values]

    def best(self, goal: Goal) -> tuple[int, float] | None:
        """The epoch that did best in validation."""
        return min(self.validated(goal.metric), key=lambda point: goal.sign * point[1], default=None)

    def dip(self, goal: Goal) -> tuple[float, float, int | None] | None:
        """What the metric was in the epochs before and after the change-over, if it got worse by it, and the epoch that
        made up for it, if one did."""
        points = dict(self.validated(goal.metric))
        at = self.change_over
        if at is None or at not in points or at - 1 not in points:
            return None
        before, after = points[at - 1], points[at]
        if goal.sign * after <= goal.sign * before:
            return None
        again = (epoch for epoch, value in points.items() if epoch > at and goal.sign * value <= goal.sign * before)
        return before, after, next(again, None)


def chosen(runs: Sequence[RunDirectory], numbers: Sequence[int] = ()) -> list[Course]:
    """A trial of each run, or several of a single one, see `choose`; one alone stands beside its dense baseline.

    Args:
        numbers: of the trials of the runs, in their order; runs beyond them give their best.

    Raises:
        RunDirectoryError: there is no such trial.
        Mistake: there are more numbers than runs.
    """
    if len(numbers) > len(runs) > 1:
        raise Mistake(f"--trial is given {len(numbers)} times for {len(runs)} runs; give it once for each, or one RUN")
    courses = [Course(run or runs[0], choose(run or runs[0], number)) for run, number in zip_longest(runs, numbers)]
    if len(courses) == 1 and courses[0].trial.role is not Role.DENSE:
        dense = [trial for trial in runs[0].trials() if trial.role is Role.DENSE and trial.epochs]
        courses += [Course(runs[0], trial) for trial in dense[:1]]
    return courses


def choose(run: RunDirectory, number: int | None) -> Trial:
    """The trial of that number; without one the best, or the first that got anywhere.

    Raises:
        RunDirectoryError: there is none.
    """
    trials = {trial.number: trial for trial in run.trials()}
    if number is not None:
        if number not in trials:
            known = f"it holds trials {min(trials)} to {max(trials)}" if trials else "it holds none yet"
            raise RunDirectoryError(f"{run.path}: no trial {number}; {known}")
        return trials[number]
    found = best(trials.values()) or [trial for trial in trials.values() if trial.epochs]
    if not found:
        raise RunDirectoryError(f"{run.path}: no trial has finished an epoch yet; wait, or --resume the search")
    return found[0]


def _validation(record: Mapping[str, Any]) -> Mapping[str, Any]:
    apart = record.get("validation")
    return apart if isinstance(apart, Mapping) else record


def _points(found: Iterable[tuple[Any, Any]]) -> list[tuple[Any, float]]:
    """Those that are finite numbers."""
    return [(epoch, float(value)) for epoch, value in found if isinstance(value, (int, float)) and math.isfinite(value)]
