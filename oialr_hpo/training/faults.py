"""Whose fault a failure is: that of a trial's settings and of its code, or of the disk and the machine beneath it.

A trial that failed through its settings or its code has failed. One whose disk or machine failed was interrupted: it
runs again when its search goes on.
"""

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from oialr_hpo import mistake
from oialr_hpo.files import whole
from oialr_hpo.mistake import Mistake, one_line


class Outcome(Enum):
    """How a job ended, as the process that trains knows it."""

    FINISHED = "finished"
    STOPPED = "stopped"
    PAUSED = "paused"
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"
    FAULT = "fault"


class Fault(Mistake):
    """The disk or the machine has failed; the message says what could not be done, and why."""


OF_THE_MACHINE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EREMOTEIO, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESHUTDOWN),
    }
)
"""Errors of a disk that is full, read-only, broken or gone, and of a machine that has no more files to give."""

FROM_OUTSIDE = frozenset(
    {
        *(signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU),
        *(signal.SIGPWR, signal.SIGBUS),
    }
)
"""Signals by which the system, a batch system or a person ends a process, and those of a failing power supply or of a
memory map whose file or shared memory is gone."""

GPU_FAULTS = ("uncorrectable ECC", "fallen off the bus", "busy or unavailable", "no CUDA-capable device", "NVLink")


@contextmanager
def written(path: Path, what: str) -> Iterator[Path]:
    """A file of the search's own, whole or not at all: whatever goes wrong is not the trial's fault.

    Raises:
        Fault: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            yield partial
    except Exception as error:  # libraries that write have errors of their own for what the system says
        said = next((cause for cause in _causes(error) if isinstance(cause, OSError)), error)
        raise Fault(f"{what} {path} cannot be written: {mistake.reason(said)}") from error


def explain(error: BaseException) -> tuple[Outcome, str]:
    """How a trial ended that raised this, and why, in a line: whatever the exception's class says, or does when asked.

    A trial's code may hide what the machine said behind exceptions of its own: their causes count too. Exceptions of
    this package say enough in their own words.
    """
    try:
        said = " ".join(str(error)[:10_000].split())
    except BaseException:
        said = ""
    name = type(error).__name__
    ours = str(type(error).__module__).partition(".")[0] == __name__.partition(".")[0]
    reason = said if said and ours else f"{name}: {said}" if said else name
    try:
        return _outcome(error, reason), one_line(reason)
    except Exception:
        return Outcome.FAILED, one_line(reason)


def death(status: int) -> tuple[Outcome, str]:
    """How a trial ended whose process ended with a status as `Popen.returncode` tells it."""
    if status >= 0:
        return Outcome.FAILED, f"the training process ended with exit status {status}"
    reason = f"the training process was killed by {_name(-status)}"
    if -status == signal.SIGKILL:
        reason += ", as the system does where memory runs out"
    return Outcome.FAULT if -status in FROM_OUTSIDE else Outcome.FAILED, reason


def _outcome(error: BaseException, reason: str) -> Outcome:
    causes = list(_causes(error))
    if any(isinstance(cause, Fault) for cause in causes):
        return Outcome.FAULT
    if any(map(_is_out_of_memory, causes)):
        return Outcome.OUT_OF_MEMORY
    if any(map(_is_of_the_machine, causes)):
        return Outcome.FAULT
    return Outcome.FAULT if any(fault in reason for fault in GPU_FAULTS) else Outcome.FAILED


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _is_of_the_machine(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in OF_THE_MACHINE


def _name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
