"""What an engine is: it runs the trials of a search. A file of `named/` for each, found by its name.

Those files are light: they import MPI and what they run with when they run.
"""

from typing import ClassVar, Protocol

from oialr_hpo.engines.plan import Plan
from oialr_hpo.extension import Room
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory

ENGINES = Room("oialr_hpo.engines.named", "engine")
"""The engines that there are."""


class ImpossibleChoice(Mistake):
    """Options that cannot go together."""


class Engine(Protocol):
    """Runs the trials of a search.

    Attributes:
        over_mpi: whether it runs on the ranks of MPI, two or more; else in one process.
        unasked: whether it is taken where that is so and none is named.
        sampler: of a search with one goal that names none.
    """

    over_mpi: ClassVar[bool]
    unasked: ClassVar[bool]
    sampler: ClassVar[str]

    def run(self, plan: Plan) -> RunDirectory:
        """Take the steps of the plan, then run the search to the end of its budget; every rank calls this.

        Returns:
            the run directory, also where a signal or the time ended the search.
        """


def load_engine(name: str) -> type[Engine]:
    """The class of an engine.

    Raises:
        ImpossibleChoice: there is none of this name, or it lacks what an engine has.
    """
    try:
        loaded: type[Engine] = ENGINES.load(ENGINES.check(name))
    except (ValueError, LookupError) as error:
        raise ImpossibleChoice(f"--engine: {error}") from None
    if missing := [each for each in ("over_mpi", "unasked", "sampler", "run") if not hasattr(loaded, each)]:
        raise ImpossibleChoice(f"--engine: {name!r} has no {', '.join(missing)}; see {__name__}.Engine")
    return loaded


def choose_engine(engine: str | None, ranks: int, jobs: int, ranks_per_trial: int = 1) -> type[Engine]:
    """The engine for a number of MPI ranks.

    Raises:
        ImpossibleChoice: the wanted engine cannot run there.
    """
    if engine:
        chosen = load_engine(engine)
        if chosen.over_mpi and ranks == 1:
            start = "mpirun -n 4 python -m oialr_hpo.search"
            raise ImpossibleChoice(f"--engine {engine} needs two MPI ranks or more: {start}")
        if not chosen.over_mpi and ranks > 1:
            remedy = f"leave out mpirun and use --jobs {ranks}"
            raise ImpossibleChoice(f"--engine {engine} runs in one process: {remedy}")
    else:
        known = map(load_engine, ENGINES.names())
        chosen = next(each for each in known if each.unasked and each.over_mpi == (ranks > 1))
    if ranks > 1 and jobs > 1:
        raise ImpossibleChoice(f"--jobs is for one process; under mpirun the {ranks} ranks are the workers")
    if ranks % ranks_per_trial:
        raise ImpossibleChoice(f"--ranks-per-trial {ranks_per_trial} does not divide the {ranks} MPI ranks")
    return chosen
