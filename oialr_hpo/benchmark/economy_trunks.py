"""Trials that share their dense beginning, in virtual time: what that saves, and what it finds.

It pays little (docs/measured.md), so no search of ours does it.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from oialr_hpo.benchmark.recorded_world import World
from oialr_hpo.engines.desk import Ticket
from oialr_hpo.experiment.space import Value
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import Role, Trial

AFTER = "oialr."
"""Settings whose keys begin so matter only after the change-over; all others make a trunk."""


class Trunks:
    """Some trials branch off earlier ones, whose seed and settings of the dense phase they have, at a change-over of
    their own, with settings from there on that are drawn at random.

    Args:
        world: where.
        share: of the proposals that are replaced by branches.
        among: one of so many of the best trials is the trunk.
        seed: of these choices.

    Attributes:
        spared: seconds of its trunk that a branch need not train, by its number.
    """

    def __init__(self, world: World, share: float, among: int, seed: int):
        self._world, self._share, self._among, self._rng = world, share, among, np.random.default_rng(seed)
        self.spared: dict[int, float] = {}

    def take(self, ticket: Ticket, trials: Iterable[Trial]) -> Ticket:
        """A ticket as it is, or for a branch off one of these trials."""
        best = standings(trials)[: self._among]
        proposes = ticket.role is Role.PROPOSAL and ticket.settings is None
        if not (proposes and best and self._rng.random() < self._share):
            return ticket
        trunk = best[self._rng.integers(len(best))].trial
        settings = trunk.settings | self._drawn()
        records = [*self._world.training(settings, trunk.seed)]
        if dense := min(_dense_epochs(records), _dense_epochs(trunk.epochs)):
            self.spared[ticket.number] = records[dense - 1]["seconds"]
        return replace(ticket, settings=settings, seed=trunk.seed)

    def _drawn(self) -> dict[str, Value]:
        space = self._world.space
        genes = dict(zip(space.parameters, self._rng.random(len(space)).tolist(), strict=True))
        return {key: value for key, value in space.decode(genes).items() if key.startswith(AFTER)}


def _dense_epochs(records: list[dict[str, Any]]) -> int:
    return sum("ranks" not in record for record in records)
