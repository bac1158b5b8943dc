"""Who proposes: a file for each sampler, found by its name.

The one public class of a file extends `Propagator`; `sampler.name` is the file's name, or `package.module:Class` for a
sampler of one's own. A propagator is called as Propulate calls its own, with the list of evaluated individuals, and
returns a new one with genes in [0, 1]; no sampler needs a database, a master, or word of what runs elsewhere. Where
the running proposals of other workers are known they may be passed as `pending`, to keep Optuna's samplers and
duplicates away from them.

`experiment/`, whose `space` is what the samplers search, lies below this room and knows it by its name alone: it lists
the files to check a name (`experiment.SAMPLERS`), and asks a class for `many_goals` where a score has several. So the
files here import torch, Propulate, Optuna and the like when something is proposed, not before. Those whose names begin
with _ are what samplers share.
"""

from importlib.util import find_spec

from oialr_hpo.experiment import SAMPLERS, Sampler
from oialr_hpo.experiment.space import Space
from oialr_hpo.samplers._distributions import distribution
from oialr_hpo.samplers._improvement import chance_of_improvement
from oialr_hpo.samplers._own import Own, SamplerError
from oialr_hpo.samplers._population import individual, individual_at, limits, move
from oialr_hpo.samplers._prior import Believer
from oialr_hpo.samplers._propagator import Place, Propagator

__all__ = [
    "NAMES",
    "Place",
    "Propagator",
    "SamplerError",
    "chance_of_improvement",
    "distribution",
    "individual",
    "individual_at",
    "limits",
    "load",
    "make_propagator",
    "move",
]

NAMES = SAMPLERS.names()
"""Of the samplers that have a file here."""


def load(name: str) -> type[Propagator]:
    """The class of a sampler.

    Raises:
        SamplerError: there is none of this name, or it needs a package that is not installed.
    """
    try:
        loaded = SAMPLERS.load(name)
    except LookupError as error:
        raise SamplerError(f"sampler.name: {error}") from None
    if not (isinstance(loaded, type) and issubclass(loaded, Propagator)):
        raise SamplerError(f"sampler.name: {name!r} is no class that extends {__name__}.Propagator")
    for package in loaded.needs:
        if find_spec(package) is None:
            raise SamplerError(f"sampler {name!r} needs the package {package}: pip install {package}")
    return loaded


def make_propagator(settings: Sampler, space: Space, place: Place) -> Propagator:
    """The propagator of one worker; `settings` have a name.

    Raises:
        SamplerError: the sampler cannot propose here.
    """
    assert settings.name is not None
    made = load(settings.name)
    plain = made(settings, space, place) if settings.name in NAMES else Own(settings, space, place, made)
    return Believer(plain) if space.priors else plain
