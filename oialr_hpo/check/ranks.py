"""Who is checked: this process alone, or the ranks of MPI, with one face."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds for a message to go round."""


class Alone:
    """One process without MPI, with the same face as `Many`."""

    rank, size = 0, 1

    def describe(self) -> str:
        return "no MPI: one process (under mpirun or srun every rank is checked)"

    def local_rank(self) -> tuple[int, int]:
        return 0, 1

    def gather(self, value: T) -> list[T]:
        return [value]

    def on_first_rank(self, action: Callable[[], T]) -> T:
        return action()

    on_every_node = on_first_rank

    def abort(self) -> None:
        pass


class Many:
    """The ranks of MPI."""

    def __init__(self) -> None:
        from oialr_hpo.engines import mpi

        self.rank, self.size = mpi.world()
        self.local_rank, self.gather = mpi.local_rank, mpi.gather
        self.on_first_rank, self.on_every_node = mpi.on_first_rank, mpi.on_every_node
        self._mpi = mpi

    def describe(self) -> str:
        """The library, and how long a message took around all ranks."""
        took = self._mpi.ring(PATIENCE)
        return f"{self._mpi.library()}: a message went round {self.size} ranks in {1000 * took:.3g} ms"

    def abort(self) -> None:
        self._mpi.abort_all("the check failed")


Ranks = Alone | Many
