"""What the samplers of Optuna share: they propose from the shared individuals, through a study in memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import MIDDLE, Space, Value
from oialr_hpo.samplers._distributions import distribution, labelled, suggest
from oialr_hpo.samplers._losses import memorable, normal_scores
from oialr_hpo.samplers._population import individual
from oialr_hpo.samplers._propagator import Place, Propagator

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial


class OptunaPropagator(Propagator):
    """A sampler of Optuna.

    The study grows by what is new. What Optuna notes at a proposal (the state of CMA-ES, the generation of NSGA-II)
    travels with the individual, as `notes`, so that all workers share it.

    Attributes:
        capacity: individuals that the sampler is told of: the best half and the latest half; its study may grow to
            twice as many.
        numbers: whether it moves numbers only: the genes instead of the settings.
        ranks: whether it is told the normal scores of the losses' ranks, afresh at every proposal.
        unnoted: the notes of an individual that has none.
        idle: what it is told of settings that are not searched beside the others: nothing, since it models one
            setting at a time; their MIDDLE, so that their genes are no noise; or their genes, to breed from.
    """

    one_for_all = True
    capacity: ClassVar[int]
    numbers: ClassVar[bool] = False
    ranks: ClassVar[bool] = False
    unnoted: ClassVar[Mapping[str, Any]] = {}
    idle: ClassVar[Literal["nothing", "middle", "genes"]] = "genes"

    def __init__(self, settings: Sampler, space: Space, place: Place):
        import optuna

        super().__init__(settings, space, place)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._labelled, self._goals = labelled(space), place.goals
        self._sampler = self.make(place.population(settings), place.stream().getrandbits(31))
        gene = optuna.distributions.FloatDistribution(0.0, 1.0)
        self._distributions: dict[str, BaseDistribution] = {
            key: gene if self.numbers else distribution(parameter) for key, parameter in space.parameters.items()
        }
        self._known: dict[int, Any] = {}
        self._begin()

    def make(self, population: int, seed: int) -> "BaseSampler":
        """Optuna's own object."""
        raise NotImplementedError

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        self._tell(individuals)
        for one in pending:
            self._withdraw(one)
            if one.position.tobytes() not in self._running:
                self._add(one, None)
        trial = self._study.ask(None if self._one_by_one else self._distributions)
        genes = self._asked(trial) if self._one_by_one else self._genes(trial.params)
        proposal = individual(self._labelled, np.array([genes[key] for key in self.space.parameters]))
        proposal.notes = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        self._running[proposal.position.tobytes()] = trial.number
        return proposal

    @property
    def _one_by_one(self) -> bool:
        return self.idle == "nothing" and bool(self.space.conditions)

    def _asked(self, trial: "Trial") -> dict[str, float]:
        """The genes of a trial, setting by setting: of those that are searched beside the ones before them."""
        genes = dict.fromkeys(self.space.parameters, MIDDLE)
        for key in self.space.order:
            if key in self.space.decode(genes):
                genes |= self._genes({key: suggest(trial, key, self._distributions[key])})
        return genes

    def _genes(self, params: Mapping[str, Value]) -> dict[str, float]:
        if self.numbers:
            return dict(params)  # type: ignore[arg-type]
        return {key: self._labelled.parameters[key].encode(value) for key, value in params.items()}

    def _params(self, one: Any) -> dict[str, Value]:
        """What Optuna is told that an individual tried."""
        genes = dict(zip(self.space.parameters, one.position.tolist(), strict=True))
        if self.idle == "middle" and self.space.conditions:
            genes = self.space.encode(self.space.decode(genes))
        params = dict(genes) if self.numbers else self._labelled.decode(genes)
        if not self._one_by_one:
            return params
        searched = self.space.decode(genes)
        return {key: value for key, value in params.items() if key in searched}

    def _begin(self) -> None:
        import optuna

        self._study = optuna.create_study(sampler=self._sampler, directions=["minimize"] * self._goals)
        self._running: dict[bytes, int] = {}
        self._size = 0

    def _tell(self, individuals: Sequence[Any]) -> None:
        losses = np.array([one.loss for one in individuals]).reshape(-1, self._goals)
        new = np.array([i for i, one in enumerate(individuals) if id(one) not in self._known], dtype=int)
        self._known.update((id(individuals[i]), individuals[i]) for i in new)
        replaced = len(self._known) > len(individuals)
        if replaced:
            self._known = {id(one): one for one in individuals}
        if replaced or self.ranks or self._size + len(new) > 2 * self.capacity:
            self._begin()
            new = memorable(np.argsort(losses[:, 0], kind="stable"), self.capacity)
        if self.ranks:
            values = np.stack([normal_scores(np.sort(each), each[new]) for each in losses.T], axis=1)
        else:
            values = losses[new]
        for i, value in zip(new, values.tolist(), strict=True):
            self._withdraw(individuals[i])
            number = self._running.pop(individuals[i].position.tobytes(), None)
            if number is None:
                self._add(individuals[i], value)
            else:
                self._study.tell(number, value)
        self._size += len(new)

    def _withdraw(self, one: Any) -> None:
        """What this study proposed was tried elsewhere instead."""
        from optuna.trial import TrialState

        number = self._running.pop(getattr(one, "origin", b""), None)
        if number is not None:
            self._study.tell(number, state=TrialState.FAIL)

    def _add(self, one: Any, values: list[float] | None) -> None:
        """Add a trial that another worker ran, or runs (values None)."""
        from optuna.trial import TrialState, create_trial

        params = self._params(one)
        if values is None:
            self._running[one.position.tobytes()] = len(self._study.get_trials(deepcopy=False))
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
                values=values,
                params=params,
                distributions={key: self._distributions[key] for key in params},
                system_attrs=one.notes if hasattr(one, "notes") else dict(self.unnoted),
            )
        )
