"""What every sampler is: a class that makes one propagator for each worker."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Space


@dataclass(frozen=True)
class Place:
    """Where a propagator works.

    Attributes:
        rank: the worker's, as its individuals carry it.
        workers: that share the population.
        trials: the budget of all of them together.
        seed: the same for all of them; every rank derives its own stream.
        goals: how many losses an individual has; with more than one, `loss` is a list.
    """

    rank: int
    workers: int
    trials: int
    seed: int
    goals: int = 1

    def stream(self) -> random.Random:
        """Random numbers of this rank alone."""
        return random.Random(f"{self.seed} {self.rank}")

    def population(self, settings: Sampler) -> int:
        """How many to breed from: what is set, or what suits the number of workers and the budget."""
        return settings.population or max(10, min(2 * self.workers, self.trials // 10))


class Propagator:
    """Proposes for one worker, from the individuals that its island shares.

    Attributes:
        many_goals: whether it knows more than one.
        one_for_all: where one process proposes for all workers, whether it wants to be the only one, told of all
            that runs; else there is one for each worker.
        needs: packages that it imports beside this one's dependencies.
    """

    many_goals: ClassVar[bool] = False
    one_for_all: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Sampler, space: Space, place: Place):
        """
        Args:
            settings: the file's section `sampler`.
            space: what is searched; individuals have one gene in [0, 1] per parameter.
            place: whose propagator it is.
        """
        self.settings, self.space, self.place = settings, space, place

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        """One more individual, see `individual`, given all evaluated ones, a list that only grows; of a trial that had
        been paused and came further, a new individual takes the place of the one before.

        Args:
            individuals: in the order in which they were heard of; `position` (d,) has the genes, `loss` is to be small.
            pending: what other workers are known to run.
        """
        raise NotImplementedError

    def prepare(self, individuals: Sequence[Any]) -> None:
        """Learn from what is known while a trial runs, so that the next proposal takes less time."""
