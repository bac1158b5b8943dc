"""Which trials are the best."""

import sys
from collections.abc import Iterable, Sequence

from oialr_hpo.runs.trial import Trial
from oialr_hpo.space import as_text


def best(trials: Iterable[Trial], count: int = 1) -> list[Trial]:
    """The `count` candidates with the best score, best first; equal settings count once."""
    unique: dict[str, Trial] = {}
    for trial in sorted((t for t in trials if t.candidate), key=lambda t: (t.goals, t.number)):
        unique.setdefault(as_text(trial.settings), trial)
    return list(unique.values())[:count]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better (all goals are minimised)."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The candidates that no other dominates, by the first goal; with one goal, the best one."""
    front: list[Trial] = []
    for trial in best(trials, sys.maxsize):  # in this order a trial is only dominated by earlier ones
        if not any(dominates(other.goals, trial.goals) or other.goals == trial.goals for other in front):
            front.append(trial)
    return front
