"""The individuals that make up a population: Propulate's, with one gene in [0, 1] for each searched setting."""

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec, module_from_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment.space import Space, Value

Array = NDArray[np.float64]


def limits(space: Space) -> dict[str, tuple[float, float]]:
    """The search space as Propulate sees it."""
    return {key: (0.0, 1.0) for key in space.parameters}


def individual(space: Space, genes: Array, **attributes: Any) -> Any:
    """A new individual, clipped to the unit cube."""
    made = propulates("population").Individual
    return made(np.clip(genes, 0.0, 1.0), limits(space), **attributes)


def individual_at(space: Space, settings: Mapping[str, Value], worker: int) -> Any:
    """A member of a population with given settings."""
    return individual(space, np.array(list(space.encode(settings).values())), rank=worker)


def move(one: Any, genes: Array | None) -> Any:
    """A proposal, moved to these genes, if any; its sampler is reminded by `origin` of what it proposed."""
    if genes is not None and not np.array_equal(one.position, genes):
        one.origin = getattr(one, "origin", one.position.tobytes())
        for key, gene in zip(one.limits, genes.tolist(), strict=True):
            one[key] = gene
    return one


@cache
def propulates(part: str) -> Any:
    """A module of Propulate without what its own `__init__` imports (MPI and GPy: seconds, and impossible on machines
    without an MPI library). A later full import finds and shares it."""
    package, name = "propulate", f"propulate.{part}"
    spec = find_spec(package)
    if package in sys.modules or spec is None:
        return importlib.import_module(name)
    sys.modules[package] = module_from_spec(spec)
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[package]
