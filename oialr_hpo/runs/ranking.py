"""Which settings are the best. Those that were tried more than once count by the mean of their scores.

Finalists (see `oialr_hpo.engines.finalists`) count by the mean of their fresh trainings alone, and stand before all
others: a single score that is better is luck in part.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev, variance

from oialr_hpo.experiment.space import as_text
from oialr_hpo.runs.trial import Role, State, Trial


@dataclass(frozen=True, eq=False)
class Standing:
    """Settings that compete: complete and feasible, and not the dense baseline.

    Attributes:
        key: the settings as text.
        trials: that had these settings and came to their end, by number.
    """

    key: str
    trials: list[Trial]

    @property
    def fresh(self) -> list[Trial]:
        """Those that trained finalists again."""
        return [trial for trial in self.trials if trial.role is Role.FINALIST]

    @property
    def counted(self) -> list[Trial]:
        """Those that count: the fresh ones, or where there are none all."""
        return self.fresh or self.trials

    @cached_property
    def goals(self) -> list[float]:
        """Means over those that count, all to be small."""
        return _mean([trial.goals for trial in self.counted])

    @cached_property
    def scores(self) -> list[float]:
        """The same in each metric's own sense."""
        return _mean([trial.scores for trial in self.counted])

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the first score over those that count; None of a single one."""
        counted = [trial.scores[0] for trial in self.counted]
        return stdev(counted) if len(counted) > 1 else None

    @property
    def trial(self) -> Trial:
        """The one that stands for them: nearest to the mean in the first goal."""
        return min(self.counted, key=lambda trial: (abs(trial.goals[0] - self.goals[0]), trial.number))


def standings(trials: Iterable[Trial]) -> list[Standing]:
    """All settings that compete, best first; with one goal finalists before the others.

    Settings that failed when they were trained again do not compete.
    """
    tried: dict[str, list[Trial]] = {}
    failed = set()
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.role is Role.FINALIST and trial.state is State.FAILED:
            failed.add(as_text(trial.settings))
        if trial.state is State.COMPLETE and trial.role is not Role.DENSE:
            tried.setdefault(as_text(trial.settings), []).append(trial)
    kept = {key: group for key, group in tried.items() if key not in failed} or tried
    found = [Standing(key, group) for key, group in kept.items() if all(trial.candidate for trial in group)]
    return sorted(found, key=_place)


def _place(standing: Standing) -> tuple[bool, list[float], int]:
    behind_finalists = len(standing.goals) == 1 and not standing.fresh
    return behind_finalists, standing.goals, standing.trials[0].number


def _mean(rows: list[list[float]]) -> list[float]:
    return rows[0] if len(rows) == 1 else [fmean(values) for values in zip(*rows, strict=True)]


def noise(settings: Iterable[Standing]) -> tuple[float, int]:
    """Standard deviation of the first goal over trainings of equal settings, and how many trainings were repeats."""
    repeated = [[trial.goals[0] for trial in standing.trials] for standing in settings if len(standing.trials) > 1]
    repeats = sum(len(goals) - 1 for goals in repeated)
    if not repeats:
        return 0.0, 0
    return (sum((len(goals) - 1) * variance(goals) for goals in repeated) / repeats) ** 0.5, repeats


def front(trials: Iterable[Trial]) -> list[Standing]:
    """The settings that no other dominates, by the first goal; with one goal, the best ones."""
    ranked = standings(trials)
    if ranked and len(ranked[0].goals) == 1:
        return ranked[:1]
    kept: list[Standing] = []
    for standing in ranked:  # in this order one is only dominated by earlier ones
        if not any(dominates(other.goals, standing.goals) or other.goals == standing.goals for other in kept):
            kept.append(standing)
    return kept


class Leading:
    """The front while trials end, one after another.

    Attributes:
        front: see there.
    """

    def __init__(self, earlier: Iterable[Trial] = ()) -> None:
        self._tried: dict[str, list[Trial]] = {}
        for trial in (ended := [*earlier]):
            self._tried.setdefault(as_text(trial.settings), []).append(trial)
        self.front = front(ended)

    def add(self, trial: Trial) -> None:
        """One has ended. Only what repeats earlier settings can make them worse, and bring others back to the front."""
        same = self._tried.setdefault(as_text(trial.settings), [])
        same.append(trial)
        leaders = (each for standing in self.front for each in standing.trials)
        repeats = len(same) > 1
        self.front = front([each for group in self._tried.values() for each in group] if repeats else [*leaders, trial])


def best(trials: Iterable[Trial], count: int = 1) -> list[Trial]:
    """A trial for each of the `count` best settings, best first."""
    return [standing.trial for standing in standings(trials)[:count]]


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """A trial for each of the settings on the Pareto front, by the first goal; with one goal, for the best."""
    return [standing.trial for standing in front(trials)]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better (all goals are minimised)."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)
