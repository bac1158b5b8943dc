"""All ranks that a launcher started, as one; a process that was started alone is the only one.

MPI is touched only where several were started.
"""

from collections.abc import Callable
from typing import TypeVar

from oialr_hpo.engines import launchers
from oialr_hpo.engines.launchers import LaunchError
from oialr_hpo.mistake import reason

T = TypeVar("T")


def join() -> int:
    """How many ranks of MPI there are.

    Raises:
        LaunchError: MPI cannot be loaded, or the launched processes are no world of it.
    """
    if not launchers.launched():
        return 1
    try:
        from oialr_hpo.engines import mpi
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"MPI cannot be loaded ({reason(error)}); load the cluster's module, or pip install '.[mpi]'"
        ) from None
    return mpi.world()[1]


def on_first_rank(action: Callable[[], T]) -> T:
    """Run `action` on rank 0 and give its result, or its exception, to all ranks."""
    if join() == 1:
        return action()
    from oialr_hpo.engines import mpi

    return mpi.on_first_rank(action)
