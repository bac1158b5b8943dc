"""Which settings are trained again with fresh seeds: the winner is to be good, not lucky.

Of many noisy scores the best one is luck in part. So the last part of a search goes into its best few settings. Each is
trained once more, the most promising first, then again those that have been trained least. The field narrows as the
trainings are spent, down to the best two (as in sequential halving, Karnin et al. 2013): a mean of many is worth what
it says. Settings whose mean lies clearly behind the best one's, or that fail, drop out sooner, and the next best take
their place (a race, as in irace, López-Ibáñez et al. 2016). With several goals the Pareto front is trained again, those
first that have been trained least.

Only fresh trainings count for the mean: the first one was chosen for its score.
"""

import math
from collections import Counter
from collections.abc import Iterable

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import Value, as_text
from oialr_hpo.runs.ranking import Standing, front, noise, standings
from oialr_hpo.runs.trial import Role, Trial

FEWEST = 2
"""So many settings are in the race to its end."""
DEVIATIONS = 2.0
"""Of the difference between two means: settings that lie further behind drop out."""


class Finalists:
    """The settings of a search that are trained again.

    Args:
        experiment: which says how many.
        earlier: trials of earlier sessions.

    Attributes:
        budget: trainings of finalists in the whole search.
        begun: of them so far.
        trials: of all roles that have ended.
    """

    def __init__(self, experiment: Experiment, earlier: Iterable[Trial] = ()):
        self.budget = experiment.finalist_trainings
        self._count = experiment.finalists.count or max(2, math.ceil(self.budget / 2))
        self._several_goals = len(experiment.score.metrics) > 1
        self.trials: list[Trial] = []
        self._running: dict[int, str] = {}  # which settings
        self.begun = 0
        for trial in earlier:
            if trial.role is Role.FINALIST:
                self.begun += 1
                self._running[trial.number] = as_text(trial.settings)
            self.ended(trial)

    @property
    def left(self) -> int:
        """Trainings that have not begun."""
        return max(0, self.budget - self.begun)

    def ended(self, trial: Trial) -> None:
        """Learn how a trial ended."""
        if trial.state.final:
            self._running.pop(trial.number, None)
            self.trials.append(trial)

    def next(self, number: int) -> dict[str, Value] | None:
        """The settings that a trial of this number trains again; None where no settings have a score."""
        running = Counter(self._running.values())
        trained = {standing: len(standing.fresh) + running[standing.key] for standing in self._field()}
        if not trained:
            return None
        chosen = min(trained, key=lambda standing: trained[standing])  # the better one of several
        self.begun += 1
        self._running[number] = chosen.key
        return dict(chosen.trial.settings)

    def _field(self) -> list[Standing]:
        """The settings that are still in the race, best first."""
        if self._several_goals:
            return front(self.trials)
        ranked = standings(self.trials)
        taken = {*self._running.values()}
        racing = [standing for standing in ranked if standing.fresh or standing.key in taken]
        others = [standing for standing in ranked if standing not in racing]
        room = max(min(FEWEST, self._count), math.ceil(self._count * self.left / self.budget))
        alive = self._not_behind(racing)[:room]
        return alive + others[: room - len(alive)]

    def _not_behind(self, racing: list[Standing]) -> list[Standing]:
        """Those that are not clearly behind the best one, which is the first."""
        tried = [standing for standing in racing if standing.fresh]
        if len(tried) < 2:
            return racing
        (spread, _), best = noise(tried), racing[0]

        def behind(standing: Standing) -> bool:
            of_both = (1 / len(standing.fresh) + 1 / len(best.fresh)) ** 0.5
            return standing.goals[0] - best.goals[0] > DEVIATIONS * spread * of_both

        return [standing for standing in racing if not (standing.fresh and behind(standing))]
