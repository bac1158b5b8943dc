"""Whether the rest of a search may pay, or may be left undone (`stop_when`).

What to expect of it is measured against the noise of a score. That is known once some finalists have been trained
again, so a few of them are before the others.
"""

from collections.abc import Sequence

from oialr_hpo import samplers
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.settings import NOISE_REPEATS
from oialr_hpo.runs.printing import figure
from oialr_hpo.runs.ranking import noise, standings
from oialr_hpo.runs.trial import Trial

UNKNOWN = 0.5
"""The first finalists are trained once this share of the proposals is left."""
LEAST_NOISE = 1e-9


class Prospect:
    """What may be expected of the proposals that are left.

    Args:
        experiment: which has a `stop_when`.
    """

    def __init__(self, experiment: Experiment):
        assert experiment.stop_when is not None
        self._enough, self._space = experiment.stop_when, experiment.space
        self._proposals = experiment.trials - experiment.finalist_trainings
        self._judged = 0  # so many trials had ended

    def asks_for_noise(self, left: int, finalists: int) -> bool:
        """Whether a finalist is to be trained before `left` more proposals, after so many finalists."""
        return finalists < NOISE_REPEATS and left <= UNKNOWN * self._proposals

    def verdict(self, trials: Sequence[Trial], left: int) -> str | None:
        """Why, after all the `trials` that have ended, `left` more proposals are not worth their while; None: they may
        be, or nothing new is known."""
        if self._judged == len(trials):
            return None
        self._judged = len(trials)
        ranked = standings(trials)
        deviation, repeats = noise(ranked)
        if repeats < NOISE_REPEATS or len(ranked) < len(self._space):
            return None
        chance = samplers.chance_of_improvement(
            self._space,
            [standing.trial.settings for standing in ranked],
            [standing.goals[0] for standing in ranked],
            winner=0,
            noise=max(deviation, LEAST_NOISE),
            left=left,
        )
        if chance >= self._enough:
            return None
        better = f"a chance of {chance:.0%} to better the winner by more than the noise, {figure(deviation)}"
        return f"ended early: {left} more settings would have {better} (stop_when: {self._enough:g})"
