"""How a trial is judged: the scores of its records, and by how much it breaks the constraints."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.score import Bound, Score
from oialr_hpo.runs.record import key
from oialr_hpo.runs.trial import State, Trial


def scores(record: Mapping[str, Any], settings: Score) -> list[float]:
    """Of one epoch's record: each goal's metric, with one goal worsened by the weighted trainable share (1 = dense).

    Raises:
        KeyError: the record lacks a metric.
    """
    values = [_number(record[key(record, name)]) for name in settings.metrics]
    if settings.trainable_weight:
        worse = settings.trainable_weight * _number(record["trainable_percent"]) / 100
        values[0] += settings.goals[0].sign * worse
    return values


def _number(value: Any) -> float:
    """NaN for what is none."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def goals(record: Mapping[str, Any], settings: Score) -> list[float]:
    """The scores of a record, all turned so that smaller is better.

    Raises:
        KeyError: the record lacks a metric.
    """
    return [goal.sign * value for goal, value in zip(settings.goals, scores(record, settings), strict=True)]


def rate(trial: Trial, record: dict[str, Any], settings: Score) -> None:
    """Take a record as the one that counts.

    Raises:
        KeyError: the record lacks a metric.
    """
    trial.metrics, trial.scores = record, scores(record, settings)
    trial.signs = [goal.sign for goal in settings.goals]


def rate_unfinished(trial: Trial, settings: Score) -> None:
    """Take the last record of a trial that was stopped early as the one that counts; without scores, where they are no
    numbers.

    Raises:
        KeyError: the record lacks a metric.
    """
    rate(trial, trial.epochs[-1], settings)
    if not _finite_all(trial.scores):
        trial.scores = []


def violation(record: Mapping[str, Any], constraints: Mapping[str, Bound]) -> float:
    """Sum over the constraints of the relative distance to the broken bound; infinite where a metric is no number.

    Raises:
        KeyError: a constraint names a metric that the record lacks.
    """
    total = 0.0
    for name, bound in constraints.items():
        value = _number(record[key(record, name)])
        if math.isnan(value):
            return math.inf
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
    last = trial.epochs[-1]
    wanted = [*experiment.score.metrics, *experiment.constraints]
    wanted += ["trainable_percent"] if experiment.score.trainable_weight else []
    missing = [name for name in wanted if key(last, name) not in last]
    if missing:
        known = ", ".join(name for name, value in last.items() if isinstance(value, (int, float)))
        trial.state, trial.reason = State.FAILED, f"no metric {missing[0]!r} to score; known: {known}"
        return
    records = trial.epochs[-1:] if tested else trial.epochs
    reached = [_goals_if_measured(record, experiment.score) for record in records]
    best = min(range(len(records)), key=lambda i: reached[i] if _finite_all(reached[i]) else [math.inf])
    chosen = best if experiment.score.epoch == "best" else len(records) - 1
    trial.metrics, trial.best_epoch = records[chosen], records[best]
    epoch = trial.metrics["epoch"]
    if not _finite_all(reached[chosen]):
        shown = ", ".join(
            str(goal.sign * value) for goal, value in zip(experiment.score.goals, reached[chosen], strict=True)
        )
        trial.state, trial.reason = State.FAILED, f"the score is {shown} at epoch {epoch}"
        return
    for name in experiment.constraints:
        if not _finite(value := trial.metrics.get(key(trial.metrics, name))):
            trial.state, trial.reason = State.FAILED, f"{name}, which has a constraint, is {value} at epoch {epoch}"
            return
    rate(trial, trial.metrics, experiment.score)
    trial.state, trial.violation = State.COMPLETE, violation(trial.metrics, experiment.constraints)


def _goals_if_measured(record: Mapping[str, Any], settings: Score) -> list[float]:
    """The goals of an epoch; NaN where it was not measured, as an objective may do now and then only."""
    try:
        return goals(record, settings)
    except KeyError:
        return [math.nan] * len(settings.metrics)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _finite_all(values: Iterable[float]) -> bool:
    return all(map(math.isfinite, values))
