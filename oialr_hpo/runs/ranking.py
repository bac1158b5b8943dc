"""Which settings are the best. Those that were tried more than once count by the mean of their scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from oialr_hpo.experiment.space import as_text
from oialr_hpo.runs.trial import Role, State, Trial


@dataclass(frozen=True)
class Standing:
    """Settings that compete: complete and feasible, and not the dense baseline.

    Attributes:
        trials: that had these settings and came to their end, by number.
        goals: means over them, all to be small.
        scores: the same in each metric's own sense.
    """

    trials: list[Trial]
    goals: list[float]
    scores: list[float]

    @property
    def trial(self) -> Trial:
        """The one that stands for them: nearest to the mean in the first goal."""
        return min(self.trials, key=lambda trial: (abs(trial.goals[0] - self.goals[0]), trial.number))


def standings(trials: Iterable[Trial]) -> list[Standing]:
    """All settings that compete, best first."""
    tried: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.state is State.COMPLETE and trial.role is not Role.DENSE:
            tried.setdefault(as_text(trial.settings), []).append(trial)
    found = [_standing(group) for group in tried.values() if all(trial.candidate for trial in group)]
    return sorted(found, key=lambda standing: (standing.goals, standing.trials[0].number))


def _standing(group: list[Trial]) -> Standing:
    return Standing(group, _mean([trial.goals for trial in group]), _mean([trial.scores for trial in group]))


def _mean(rows: list[list[float]]) -> list[float]:
    return rows[0] if len(rows) == 1 else [fmean(values) for values in zip(*rows, strict=True)]


def front(trials: Iterable[Trial]) -> list[Standing]:
    """The settings that no other dominates, by the first goal; with one goal, the best ones."""
    kept: list[Standing] = []
    for standing in standings(trials):  # in this order one is only dominated by earlier ones
        if not any(dominates(other.goals, standing.goals) or other.goals == standing.goals for other in kept):
            kept.append(standing)
    return kept


def best(trials: Iterable[Trial], count: int = 1) -> list[Trial]:
    """A trial for each of the `count` best settings, best first."""
    return [standing.trial for standing in standings(trials)[:count]]


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """A trial for each of the settings on the Pareto front, by the first goal; with one goal, for the best."""
    return [standing.trial for standing in front(trials)]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better (all goals are minimised)."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)
