"""Who proposes: one propagator per worker, from the individuals that its island shares.

A propagator is called as Propulate calls its own, with the list of evaluated individuals, and returns a new one with
genes in [0, 1]; no sampler needs a database, a master, or word of what runs elsewhere. Where the running proposals of
other workers are known they may be passed as `pending`, to keep Optuna's samplers and duplicates away from them.
"""

import importlib
import importlib.util
import math
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment import Experiment, Sampler, SamplerName
from oialr_hpo.experiment.space import Choice, FloatRange, Parameter, Space, Value
from oialr_hpo.runs.trial import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


def _load_without_mpi(package: str, part: str) -> Any:
    """Import `package.part` without what the package's own `__init__` imports (here MPI and GPy: seconds, and
    impossible on machines without an MPI library). A later full import finds and shares the part."""
    name = f"{package}.{part}"
    spec = importlib.util.find_spec(package)
    if package in sys.modules or spec is None:
        return importlib.import_module(name)
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[package]


propagators = _load_without_mpi("propulate", "propagators")
Individual = sys.modules["propulate.population"].Individual

Array = NDArray[np.float64]
Propagator = Callable[..., Any]
NAMES: tuple[SamplerName, ...] = get_args(SamplerName)


def make_propagator(
    settings: Sampler, space: Space, *, rank: int, workers: int, trials: int, seed: int, goals: int = 1
) -> Propagator:
    """The propagator of one worker: given all evaluated individuals, a list that only grows, it proposes one more.

    Args:
        settings: the sampler's name and knobs.
        space: what is searched; individuals have one gene in [0, 1] per parameter.
        rank: the worker's, as its individuals carry it.
        workers: that share the population.
        trials: the budget of all of them together.
        seed: the same for all of them; every rank derives its own stream.
        goals: how many losses an individual has; with more than one, `loss` is a list.

    Raises:
        ValueError: the sampler has no name yet.
        ImportError: the sampler needs a package that is not installed.
    """
    name = settings.name
    stream = random.Random(f"{seed} {rank}")
    population = settings.population or max(10, min(2 * workers, trials // 10))
    if name == "evolution":
        return Evolution(space, rank, workers, seed, population, settings)
    if name == "cmaes":
        return CovarianceAdaptation(space, settings.population, stream)
    if name == "pso":
        return ParticleSwarm(space, rank, stream)
    if name == "random":
        return lambda individuals, pending=(): propagators.InitUniform(limits(space), rng=stream)()
    if name is None:
        raise ValueError("the sampler has no name")
    return OptunaPropagator(name, space, population, stream.getrandbits(31), goals)


def limits(space: Space) -> dict[str, tuple[float, float]]:
    """The search space as Propulate sees it."""
    return {key: (0.0, 1.0) for key in space.parameters}


def individual(space: Space, genes: Array, **attributes: Any) -> Any:
    """A new individual, clipped to the unit cube."""
    return Individual(np.clip(genes, 0.0, 1.0), limits(space), **attributes)


def individual_of(space: Space, trial: Trial) -> Any:
    """A trial whose settings were given, or that an earlier session ran, as a member of a population."""
    return individual_at(space, trial.settings, trial.worker)


def individual_at(space: Space, settings: Mapping[str, Value], worker: int) -> Any:
    """A member of a population with given settings."""
    return individual(space, np.array(list(space.encode(settings).values())), rank=worker)


def move(one: Any, genes: Array | None) -> Any:
    """A proposal, moved to these genes, if any; its sampler is reminded by `origin` of what it proposed."""
    if genes is not None and not np.array_equal(one.position, genes):
        one.origin = one.position.tobytes()
        for key, gene in zip(one.limits, genes.tolist(), strict=True):
            one[key] = gene
    return one


def loss(trial: Trial, experiment: Experiment) -> Any:
    """What samplers minimise: a number, or a list of one per goal."""
    losses = trial.losses(len(experiment.score.metrics), experiment.epochs(trial.settings))
    return losses[0] if len(losses) == 1 else losses


class Geometry:
    """Points of the unit cube as the model must see them: by what they decode to."""

    def __init__(self, space: Space):
        self.parameters = tuple(space.parameters.values())
        widths = [1 if _ordered(parameter) else len(parameter.extremes()) for parameter in self.parameters]
        self.owner = np.repeat(np.arange(len(widths)), widths)  # of each feature: its parameter
        self.ordered = np.array([_ordered(parameter) for parameter in self.parameters])

    def snap(self, genes: Array) -> Array:
        """(n, d) genes, moved to the middle of all that decode to the same settings."""
        genes = np.clip(genes, 0.0, 1.0)
        return np.stack([_snap(parameter, genes[:, i]) for i, parameter in enumerate(self.parameters)], axis=1)

    def features(self, snapped: Array) -> Array:
        """(n, d) snapped genes to (n, features): unordered choices become corners at distance 1 of each other."""
        columns = []
        for i, parameter in enumerate(self.parameters):
            if self.ordered[i]:
                columns.append(snapped[:, i : i + 1])
            else:
                count = len(parameter.extremes())
                chosen = np.minimum((snapped[:, i] * count).astype(int), count - 1)
                columns.append(np.eye(count)[chosen] / math.sqrt(2))
        return np.hstack(columns)


def _ordered(parameter: Parameter) -> bool:
    """Whether neighbours on the axis are alike: ranges, and choices that are numbers listed in order."""
    if not isinstance(parameter, Choice):
        return True
    values = parameter.values
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        return False
    return list(values) in (sorted(values), sorted(values, reverse=True))  # type: ignore[type-var]


def _snap(parameter: Parameter, genes: Array) -> Array:
    if isinstance(parameter, Choice):
        count = len(parameter.values)
        return (np.minimum(np.floor(genes * count), count - 1) + 0.5) / count
    if isinstance(parameter, FloatRange):
        return genes
    low, high = parameter.low - 0.5, parameter.high + 0.5
    values = np.exp(math.log(low) + genes * math.log(high / low)) if parameter.log else low + genes * (high - low)
    values = np.clip(np.floor(values + 0.5), parameter.low, parameter.high)
    return np.log(values / low) / math.log(high / low) if parameter.log else (values - low) / (high - low)


class Evolution:
    """Surrogate-assisted evolution: breed many children, train the one that a model draws.

    1. The first proposals of all workers together form one Latin hypercube.
    2. From then on 300 children are bred from the best individuals: parents drawn with the logarithmic rank weights of
       CMA-ES, uniform crossover, and mutations whose reach (per child, log-uniform over two decades) and number of
       genes vary, so that no step size needs tuning; unordered choices are redrawn. A tenth is uniformly random.
       Children that decode to settings already tried are dropped.
    3. A Gaussian process over the ranks of the losses (their normal scores: failures and scales do no harm) is
       conditioned on the best and the latest individuals, at most 200, so that a proposal costs the same late in a
       search. One function is drawn from its posterior, and its best child is proposed.

    Thompson sampling (3) is what makes it asynchronous without a word between workers: each draws a function of its
    own, so that workers with the same population propose different points where the model is in doubt, and agree only
    where it is sure (Kandasamy et al., Parallelised Bayesian Optimisation via Thompson Sampling, 2018). Choosing
    among children instead of the whole cube keeps draws near what has worked (pre-selection, Jin 2005).
    """

    CHILDREN = 300
    MEMORY = 200

    def __init__(self, space: Space, rank: int, workers: int, seed: int, population: int, knobs: Sampler):
        self._space, self._geometry, self._knobs, self._population = space, Geometry(space), knobs, population
        self._rng = np.random.default_rng([seed, rank])
        design = _latin_hypercube(max(workers, 2 * len(space)), len(space), np.random.default_rng(seed))
        self._start_size, self._start = len(design), list(self._geometry.snap(design[rank::workers]))
        self._tried: set[bytes] = set()
        self._losses: list[float] = []
        self._model = GaussianProcess(self._geometry.owner)

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        return individual(self._space, self._genes(individuals, pending))

    def _genes(self, individuals: Sequence[Any], pending: Iterable[Any]) -> Array:
        losses = self._remember(individuals)
        self._tried.update(self._settings(list(pending)))
        while self._start and len(individuals) < self._start_size:
            if (point := self._start.pop(0)).tobytes() not in self._tried:
                return point
        if len(individuals) < 3:
            return self._rng.random(len(self._space))
        order = np.argsort(losses, kind="stable")
        children = self._untried(self._breed(_genes_of(individuals[i] for i in order[: self._population])))
        if not len(children):
            return self._rng.random(len(self._space))
        self._fit(individuals, losses, order, growth=1.6)
        drawn = self._model.draw(self._geometry.features(children), self._rng)
        return children[np.argmin(drawn)]

    def prepare(self, individuals: Sequence[Any]) -> None:
        """Refine the model's hyperparameters ahead of the next proposal, where they are soon due."""
        if len(individuals) >= 3 and self._model.outgrown(len(individuals), growth=1.25):
            losses = self._remember(individuals)
            self._fit(individuals, losses, np.argsort(losses, kind="stable"), growth=1.25)

    def _fit(self, individuals: Sequence[Any], losses: Array, order: NDArray[np.intp], growth: float) -> None:
        """Condition the model on the individuals; `order` sorts them by loss."""
        kept = _memorable(order, self.MEMORY)
        points = self._geometry.features(self._geometry.snap(_genes_of(individuals[i] for i in kept)))
        self._model.fit(points, _normal_scores(losses[order], losses[kept]), len(losses), growth)

    def _breed(self, parents: Array) -> Array:
        """(CHILDREN, d) genes of children of `parents` (best first)."""
        rng, count, (size, d) = self._rng, self.CHILDREN, parents.shape
        weights = math.log(size + 0.5) - np.log(np.arange(1, size + 1))
        first, second = rng.choice(size, (2, count), p=weights / weights.sum())
        crossed = rng.random((count, 1)) < self._knobs.crossover
        children: Array = np.where(crossed & (rng.random((count, d)) < 0.5), parents[second], parents[first])

        rate = self._knobs.mutation * rng.choice([1, 2, 4], (count, 1)) / d
        mutated = rng.random((count, d)) < rate
        mutated[np.arange(count), rng.integers(d, size=count)] |= ~mutated.any(axis=1)
        reach = 10 ** rng.uniform(-2.5, -0.3, (count, 1))
        steps = reach * rng.standard_normal((count, d))
        redrawn = ~self._geometry.ordered | (rng.random((count, d)) < 0.2)
        children = np.where(mutated, np.where(redrawn, rng.random((count, d)), _reflect(children + steps)), children)

        orphans = rng.random(count) < self._knobs.random
        children[orphans] = rng.random((orphans.sum(), d))
        return children

    def _untried(self, children: Array) -> Array:
        snapped = self._geometry.snap(children)
        fresh = {key: point for point in snapped if (key := point.tobytes()) not in self._tried}
        return np.array(list(fresh.values()))

    def _remember(self, individuals: Sequence[Any]) -> Array:
        """The losses of all individuals, of which only the new ones are looked at."""
        new = individuals[len(self._losses) :]
        self._losses += [one.loss for one in new]
        self._tried.update(self._settings(new))
        return np.array(self._losses)

    def _settings(self, individuals: Sequence[Any]) -> list[bytes]:
        return [point.tobytes() for point in self._geometry.snap(_genes_of(individuals))] if individuals else []


def _latin_hypercube(count: int, d: int, rng: np.random.Generator) -> Array:
    """(count, d) points, each of `count` equal slices of each axis holding exactly one."""
    slices = rng.permuted(np.tile(np.arange(count), (d, 1)), axis=1).T
    return (slices + rng.random((count, d))) / count


def _reflect(genes: Array) -> Array:
    """Fold what lies outside [0, 1] back at the borders."""
    folded = np.mod(genes, 2.0)
    return np.where(folded > 1.0, 2.0 - folded, folded)


def _genes_of(individuals: Iterable[Any]) -> Array:
    return np.array([one.position for one in individuals])


def _normal_scores(ascending: Array, losses: Array) -> Array:
    """Standard normal quantiles of the ranks of some `losses` among all, sorted ones; ties share their mean rank."""
    mean_rank = (np.searchsorted(ascending, losses, "left") + np.searchsorted(ascending, losses, "right") - 1) / 2
    quantile = NormalDist().inv_cdf
    return np.array([quantile((rank + 0.5) / len(ascending)) for rank in mean_rank])


class GaussianProcess:
    """Matérn-5/2 with a length scale per parameter and a noise variance, all at their maximum a posteriori.

    The signal variance is integrated out (inverse-gamma prior); length scales have a log-normal prior around
    d^(1/4) / 2 and the noise one around e^-6.

    Args:
        owner: of each feature, the parameter it belongs to.
    """

    REFINEMENTS = 25

    def __init__(self, owner: NDArray[np.intp]):
        self._owner, self._d = owner, int(owner.max()) + 1
        self._log_scale = math.log(0.5) + 0.25 * math.log(self._d)
        self._theta = np.r_[np.full(self._d, self._log_scale), -5.0]  # log length scales, log noise variance
        self._fitted = 0

    def fit(self, points: Array, targets: Array, observed: int, growth: float) -> None:
        """Condition on (n, features) points and (n,) targets.

        The hyperparameters are refined whenever `observed`, the size of the whole history, has grown by that factor.
        """
        self._mean = targets.mean()
        targets = targets - self._mean
        if self.outgrown(observed, growth):
            self._refine(points, targets)
            self._fitted = observed
        self._points = points
        root = np.linalg.cholesky(_matern(self._squares(points, points)) + self._noise * np.eye(len(points)))
        self._whitening = np.linalg.inv(root)  # the inverse of the covariance itself would not be accurate enough
        self._whitened = self._whitening @ targets
        self._variance = (self._whitened @ self._whitened + 1) / (len(targets) + 1)

    def outgrown(self, observed: int, growth: float) -> bool:
        """Whether the history has grown by that factor since the hyperparameters were refined."""
        return observed >= growth * self._fitted

    def draw(self, points: Array, rng: np.random.Generator) -> Array:
        """One sample of the posterior function at (m, features) points."""
        cross = self._whitening @ _matern(self._squares(self._points, points))
        mean = self._mean + cross.T @ self._whitened
        spread = _matern(self._squares(points, points))
        spread -= cross.T @ cross
        spread.flat[:: len(points) + 1] += 1e-6
        return mean + math.sqrt(self._variance) * (np.linalg.cholesky(spread) @ rng.standard_normal(len(points)))

    @property
    def _noise(self) -> float:
        return float(np.exp(self._theta[-1])) + 1e-6

    def _squares(self, a: Array, b: Array) -> Array:
        """Squared distances in units of the length scales."""
        scales = np.exp(-self._theta[:-1])[self._owner]
        a, b = a * scales, b * scales
        squares = a @ (-2 * b.T)
        squares += (a**2).sum(1)[:, None]
        squares += (b**2).sum(1)
        return np.maximum(squares, 0.0, out=squares)

    def _refine(self, points: Array, targets: Array) -> None:
        """Resilient backpropagation (Riedmiller and Braun 1993), from the last optimum on: scipy's optimisers would
        do it in fewer steps, but take longer to import than a search spends on all of them."""
        squares = np.stack([((points[:, None, mine] - points[None, :, mine]) ** 2).sum(-1) for mine in self._columns()])
        low = np.r_[np.full(self._d, math.log(0.05)), math.log(1e-5)]
        high = np.r_[np.full(self._d, math.log(20.0)), 0.0]
        theta, step, before = self._theta, np.full(self._d + 1, 0.2), np.zeros(self._d + 1)
        best = math.inf
        for _ in range(self.REFINEMENTS):
            loss, slope = self._loss(theta, squares, targets)
            if loss < best:
                best, self._theta = loss, theta
            turned = slope * before
            step = np.clip(step * np.where(turned > 0, 1.3, np.where(turned < 0, 0.5, 1.0)), 0.01, 1.0)
            before = np.where(turned < 0, 0.0, slope)
            theta = np.clip(theta - np.sign(before) * step, low, high)

    def _columns(self) -> list[NDArray[np.bool_]]:
        return [self._owner == parameter for parameter in range(self._d)]

    def _loss(self, theta: Array, squares: Array, targets: Array) -> tuple[float, Array]:
        """Negative log posterior of the hyperparameters, and its gradient."""
        n, noise, inverse_squared = len(targets), math.exp(theta[-1]), np.exp(-2 * theta[:-1])
        total = np.tensordot(inverse_squared, squares, 1)
        root = np.sqrt(5 * total)  # before the covariance takes the place of the squares
        covariance = _matern(total) + (noise + 1e-6) * np.eye(n)
        inverse = np.linalg.inv(covariance)
        weights = inverse @ targets
        variance = (targets @ weights + 1) / (n + 1)
        off_scale, off_noise = theta[:-1] - self._log_scale, (theta[-1] + 6) / 2
        loss = 0.5 * (n + 1) * math.log(variance) + 0.5 * np.linalg.slogdet(covariance)[1]
        loss += 0.5 * (off_scale @ off_scale + off_noise**2)

        sensitivity = inverse - np.outer(weights, weights) / variance
        slope = sensitivity * (5 / 3) * (1 + root) * np.exp(-root)
        by_scale = 0.5 * inverse_squared * np.tensordot(squares, slope, 2) + off_scale
        by_noise = 0.5 * noise * np.trace(sensitivity) + off_noise / 2
        return float(loss), np.r_[by_scale, by_noise]


def _matern(squares: Array) -> Array:
    """The covariance at squared distances, in their place: new arrays of this size cost more than the arithmetic."""
    squares *= 5
    root = np.sqrt(squares)
    squares /= 3
    squares += root
    squares += 1
    squares *= np.exp(np.negative(root, out=root), out=root)
    return squares


class CovarianceAdaptation:
    """Propulate's CMA-ES; each worker adapts a distribution of its own to the shared individuals.

    What it draws outside the cube is folded back.
    """

    def __init__(self, space: Space, population: int | None, rng: random.Random):
        self._space = space
        adapter = propagators.BasicCMA()
        self._propagator = propagators.CMAPropagator(adapter, limits(space), pop_size=population, rng=rng)

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        return individual(self._space, _reflect(self._propagator(list(individuals)).position))


class ParticleSwarm:
    """Propulate's canonical PSO (constriction and clamped velocity; Poli et al. 2007): one particle per worker.

    A particle that has not flown yet, or that was read back without its velocity, starts at a random place; at the
    border it stops.
    """

    def __init__(self, space: Space, rank: int, rng: random.Random):
        self._space, self._rank, self._rng = space, rank, rng
        self._swarm = propagators.CanonicalPSO(2.05, 2.05, rank, limits(space), rng)

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        flying = [one for one in individuals if one.rank != self._rank or one.velocity is not None]
        if not any(one.rank == self._rank for one in flying):
            genes, slow = np.array([[self._rng.random(), self._rng.random()] for _ in self._space.parameters]).T
            velocity = 0.2 * slow - 0.1
            return individual(self._space, genes, velocity=velocity, rank=self._rank)
        moved = self._swarm(flying)
        velocity = np.where((moved.position >= 0) & (moved.position <= 1), moved.velocity, 0.0)
        return individual(self._space, moved.position, velocity=velocity, rank=self._rank)


# Individuals that an Optuna sampler is told of: the best half and the latest half; its study may grow to twice as many.
OPTUNA = {"tpe": 200, "gp": 100, "cmaes-optuna": 500, "nsga2": 500}


class OptunaPropagator:
    """A sampler of Optuna that proposes from the shared individuals, through a study in memory.

    The study grows by what is new. What Optuna notes at a proposal (the state of CMA-ES, the generation of NSGA-II)
    travels with the individual, as `notes`, so that all workers share it. The Gaussian process, which takes losses at
    face value, is told the normal scores of their ranks instead, afresh at every proposal.

    Raises:
        ImportError: the sampler needs a package that is not installed.
    """

    def __init__(self, name: SamplerName, space: Space, population: int, seed: int, goals: int):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name, self._space, self._goals, self._capacity = name, labelled(space), goals, OPTUNA[name]
        self._sampler = _optuna_sampler(name, population, seed)
        if name == "cmaes-optuna":  # it moves numbers only: the genes
            gene = optuna.distributions.FloatDistribution(0.0, 1.0)
            self._distributions: dict[str, BaseDistribution] = {key: gene for key in space.parameters}
        else:
            self._distributions = {key: distribution(parameter) for key, parameter in space.parameters.items()}
        self._known: dict[int, Any] = {}
        self._begin()

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        self._tell(individuals)
        for one in pending:
            self._withdraw(one)
            if one.position.tobytes() not in self._running:
                self._add(one, None)
        trial = self._study.ask(self._distributions)
        genes = trial.params if self._name == "cmaes-optuna" else self._space.encode(trial.params)
        proposal = individual(self._space, np.array([genes[key] for key in self._space.parameters]))
        proposal.notes = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        self._running[proposal.position.tobytes()] = trial.number
        return proposal

    def _begin(self) -> None:
        import optuna

        self._study = optuna.create_study(sampler=self._sampler, directions=["minimize"] * self._goals)
        self._running: dict[bytes, int] = {}
        self._size = 0

    def _tell(self, individuals: Sequence[Any]) -> None:
        losses = np.array([one.loss for one in individuals]).reshape(-1, self._goals)
        new = np.array([i for i, one in enumerate(individuals) if id(one) not in self._known], dtype=int)
        self._known.update((id(individuals[i]), individuals[i]) for i in new)
        if self._name == "gp" or self._size + len(new) > 2 * self._capacity:
            self._begin()
            new = _memorable(np.argsort(losses[:, 0], kind="stable"), self._capacity)
        if self._name == "gp":
            values = np.stack([_normal_scores(np.sort(each), each[new]) for each in losses.T], axis=1)
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

        genes = dict(zip(self._space.parameters, one.position.tolist(), strict=True))
        if values is None:
            self._running[one.position.tobytes()] = len(self._study.get_trials(deepcopy=False))
        given = {"NSGAIISampler:generation": 0} if self._name == "nsga2" else {}
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
                values=values,
                params=genes if self._name == "cmaes-optuna" else self._space.decode(genes),
                distributions=self._distributions,
                system_attrs=getattr(one, "notes", given),
            )
        )


def _memorable(order: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Indices of the best and of the latest `count` / 2, ascending; `order` sorts all by loss."""
    return np.union1d(order[: count // 2], np.arange(max(0, len(order) - count // 2), len(order)))


def _optuna_sampler(name: str, population: int, seed: int) -> "BaseSampler":
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    try:
        if name == "gp":
            importlib.import_module("torch")
            return optuna.samplers.GPSampler(seed=seed)
        importlib.import_module("cmaes")
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    except ModuleNotFoundError as error:
        raise ImportError(f"sampler {name!r} needs the package {error.name}: pip install {error.name}") from None


def labelled(space: Space) -> Space:
    """The same space with labels for choices, as Optuna sees it."""
    labels = {key: Choice(each.labels) for key, each in space.parameters.items() if isinstance(each, Choice)}
    return Space(space.parameters | labels)


def distribution(parameter: Parameter) -> "BaseDistribution":
    """Optuna's counterpart of a line of the search space."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.labels)
    if isinstance(parameter, FloatRange):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)
