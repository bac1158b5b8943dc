"""How much each setting decides, and how sure that is."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import BaseImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Importance:
    """Of a setting, in shares of all.

    Attributes:
        low, high: where nine in ten resamples of the trials have it.
    """

    share: float
    low: float
    high: float


def importances(
    study: optuna.Study,
    keys: Sequence[str],
    goal: int = 0,
    evaluator: Callable[[], BaseImportanceEvaluator] = PedAnovaImportanceEvaluator,
    resamples: int = 20,
) -> dict[str, Importance]:
    """Of its settings, the most important first; intervals are the bootstrap's, over complete trials.

    Args:
        study: all goals are to be minimised.
        keys: of settings; some trial has each.
        goal: which one of its goals counts.
        evaluator: makes what tells importances; each time the same.

    Raises:
        ValueError, RuntimeError: the trials do not tell.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    found, rng = _shares(complete, keys, goal, evaluator()), np.random.default_rng(0)
    drawn: dict[str, list[float]] = {key: [] for key in found}
    for _ in range(resamples):
        again = [complete[place] for place in rng.integers(len(complete), size=len(complete))]
        known = [key for key in keys if any(key in trial.params for trial in again)]
        shares = _shares(again, known, goal, evaluator())
        for key in found:
            drawn[key].append(shares.get(key, 0.0))
    outside = (1 - CONFIDENCE) / 2
    bounds = {key: np.quantile(values, [outside, 1 - outside]) for key, values in drawn.items()}
    ordered = sorted(found, key=lambda key: -found[key])
    return {key: Importance(found[key], *map(float, bounds[key])) for key in ordered}


def _shares(
    trials: Sequence[FrozenTrial], keys: Sequence[str], goal: int, evaluator: BaseImportanceEvaluator
) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best tenth of few trials is one
        study = optuna.create_study(directions=["minimize"] * len(trials[0].values))
        study.add_trials(trials)
        several = len(trials[0].values) > 1
        target = (lambda trial: trial.values[goal]) if several else None
        return optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(keys), target=target)
