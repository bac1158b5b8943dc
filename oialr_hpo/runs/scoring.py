"""How a trial is judged: the scores of its records, and by how much it breaks the constraints."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from oialr_hpo.experiment import Bound, Experiment, Score
from oialr_hpo.runs.trial import State, Trial


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
