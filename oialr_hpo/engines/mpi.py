"""The ranks of COMM_WORLD: who they are, and what they do together outside of a search.

Of a search only this module and `replicas` import MPI. Ranks that wait sleep: a collective call of MPI
spins, and would slow the rank that they wait for.
"""

import os
import pickle
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from oialr_hpo.engines import launchers
from oialr_hpo.engines.launchers import LaunchError
from oialr_hpo.mistake import Mistake
from oialr_hpo.training.faults import explain

launchers.forget_strays()

from mpi4py import MPI  # noqa: E402

T = TypeVar("T")
Comm = MPI.Comm
"""Some ranks that talk to each other."""
WORLD = MPI.COMM_WORLD
"""All ranks."""
HEARD = 0.5  # seconds in which the launcher passes on what a rank says last: it drops what it reads after an abort


def world() -> tuple[int, int]:
    """Rank and number of ranks.

    Raises:
        LaunchError: the launcher started more processes than MPI sees.
    """
    size, started = WORLD.size, launchers.size()
    if started is not None and started > size:
        raise LaunchError(
            f"the launcher started {started} processes, but to {library()} each is in a world of {size}; "
            "start MPICH with srun --mpi=pmi2, Open MPI with srun --mpi=pmix, or either with its own mpirun"
        )
    return WORLD.rank, size


def library() -> str:
    """Name and version of the MPI library."""
    words = MPI.Get_library_version().split("\n")[0].replace("\t", " ").split(",")[0].split()
    return " ".join(words).removesuffix("\x00").replace(" Version:", "")


def local_rank() -> tuple[int, int]:
    """Rank among those of this node, and how many of those may run on this rank's CPUs, itself included."""
    node = WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    mine = os.sched_getaffinity(0)
    sharing = sum(bool(mine & other) for other in node.allgather(mine))
    rank = node.rank
    node.Free()
    return rank, sharing


def on_first_rank(action: Callable[[], T], comm: Comm = WORLD) -> T:
    """Run `action` on rank 0 and give its result, or its exception, to all ranks."""
    outcome: tuple[T | None, BaseException | None] = (None, None)
    if comm.rank == 0:
        try:
            outcome = (action(), None)
        except BaseException as error:  # every rank must learn of it, or the others would wait forever
            outcome = (None, _portable(error))
    wait_for_all(comm)
    result, failure = comm.bcast(outcome, root=0)
    if failure is not None:
        raise failure
    return result


def _portable(error: BaseException) -> BaseException:
    """An exception as it can be sent: of a class of the user's that cannot, what it says."""
    try:
        return error if isinstance(pickle.loads(pickle.dumps(error)), type(error)) else Mistake(explain(error)[1])
    except Exception:
        return Mistake(explain(error)[1])


def on_every_node(action: Callable[[], T]) -> T:
    """Run `action` on one rank of each node and give its result to the node's ranks; an exception goes to all."""
    node = WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    outcome: tuple[T | None, BaseException | None]
    try:
        outcome = (on_first_rank(action, node), None)
    except BaseException as error:
        outcome = (None, error)
    node.Free()
    for failure in gather(outcome[1]):
        if failure is not None:
            raise failure
    return outcome[0]  # type: ignore[return-value]


def gather(value: T) -> list[T]:
    """The values of all ranks, on all ranks."""
    wait_for_all(WORLD)
    return WORLD.allgather(value)


def wait_for_all(comm: Comm) -> None:
    """A barrier that sleeps."""
    sleep_until(comm.Ibarrier().Test, longest=0.02)


def arrived(comm: Comm, tag: int = MPI.ANY_TAG) -> Iterator[tuple[int, int, Any]]:
    """What has arrived from other ranks: source, tag and message of each."""
    status = MPI.Status()
    while comm.iprobe(tag=tag, status=status) or comm.iprobe(tag=tag, status=status):  # the first look makes progress
        source, sent_as = status.Get_source(), status.Get_tag()
        yield source, sent_as, comm.recv(source=source, tag=sent_as)


def sleep_until(condition: Callable[[], bool], longest: float) -> None:
    """Look up again and again, less often the longer it takes: many ranks may share a CPU with the one they wait for.

    Args:
        condition: what is waited for.
        longest: seconds between two looks.
    """
    pause = 0.001
    while not condition():
        time.sleep(pause)
        pause = min(1.5 * pause, longest)


def ring(patience: float) -> float:
    """Pass a message from rank to rank until it is back; returns the seconds that took.

    Raises:
        LaunchError: a rank has heard nothing for `patience` seconds, or the wrong thing.
    """
    comm = WORLD
    before, after = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    wait_for_all(comm)
    started = time.monotonic()
    sending = comm.isend([0], dest=after) if comm.rank == 0 else None
    while not comm.iprobe(source=before):
        if time.monotonic() - started > patience:
            raise LaunchError(
                f"rank {comm.rank} on {socket.gethostname()} has heard nothing from rank {before} "
                f"for {patience:.0f} s; look for a firewall between the nodes, or name MPI the right network interface"
            )
        time.sleep(0.0005)
    message: list[int] = comm.recv(source=before)
    if sending is not None:
        sending.wait()
    else:
        comm.send([*message, comm.rank], dest=after)
    if message != list(range(comm.rank or comm.size)):
        raise LaunchError(f"rank {comm.rank} got the message of ranks {message}")
    return time.monotonic() - started


def abort_all(what: str) -> NoReturn:
    """Print the exception in flight and stop every rank at once."""
    error = sys.exc_info()[1]
    said = f"error: {error}\n" if isinstance(error, Mistake) else traceback.format_exc()
    print(f"rank {WORLD.rank}: {what}, all ranks stop\n{said}", end="", file=sys.stderr, flush=True)
    time.sleep(HEARD)
    WORLD.Abort(1)
    raise SystemExit(1)
