"""A sampler of one's own: what goes wrong in it is one line that names it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Space
from oialr_hpo.mistake import Mistake, described
from oialr_hpo.samplers._population import propulates
from oialr_hpo.samplers._propagator import Place, Propagator


class SamplerError(Mistake):
    """A sampler that cannot propose; the message says why."""


class Own(Propagator):
    """Proposes what another propagator proposes.

    Raises:
        SamplerError: that raised an exception, or proposed no individual of the space.
    """

    def __init__(self, settings: Sampler, space: Space, place: Place, make: Callable[..., Propagator]):
        super().__init__(settings, space, place)
        with self._named():
            self._own = make(settings, space, place)

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        with self._named():
            one = self._own(individuals, pending)
        if not isinstance(one, propulates("population").Individual) or [*one.keys()] != [*self.space.parameters]:
            proposed = f"what it proposes is {type(one).__name__}"
            raise self._wrong(f"{proposed}; return oialr_hpo.samplers.individual(space, genes)")
        if not np.isfinite(one.position).all():
            raise self._wrong(f"its genes {one.position.tolist()} are no numbers in [0, 1]")
        return one

    def prepare(self, individuals: Sequence[Any]) -> None:
        with self._named():
            self._own.prepare(individuals)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self._wrong(described(error)) from error

    def _wrong(self, what: str) -> SamplerError:
        return SamplerError(f"sampler.name: {self.settings.name}: {what}")
