"""The process that trains: `python -m oialr_hpo.engines.child FD`.

It says ("ready",), then takes jobs from its parent over the pipe FD, one after another, and never sees MPI. It answers
every job with one ("epoch", record) per record, each of which the parent answers with a `Verdict`, and one
("end", outcome, reason, fit), where `fit` tells whether this process can take another job.
"""

import gc
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.tasks import resolve


class Verdict(Enum):
    """What becomes of a running trial after an epoch."""

    GO_ON = "go on"
    PRUNE = "prune"
    INTERRUPT = "interrupt"


class Outcome(Enum):
    """How a job ended, as the child knows it."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"


LEAK_BYTES = 2**30
"""A process that has kept so much more after a job than after its first one is replaced."""


@dataclass(frozen=True)
class Job:
    """One trial for the child: an objective (`package.module:function`) and what to call it with."""

    objective: str
    experiment: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)

    def with_arguments(self, **arguments: Any) -> "Job":
        """The same job, with these arguments added or changed."""
        return replace(self, arguments=self.arguments | arguments)


def main() -> None:
    parent = os.getppid()
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when a trial stops
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    connection.send(("ready",))
    held = 0  # after the first job: later ones have what it loaded in common
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        outcome, reason = _run(job, connection)
        leaked = held and _memory() - held > LEAK_BYTES
        if leaked:
            _free()
            leaked = _memory() - held > LEAK_BYTES
        fit = outcome is not Outcome.OUT_OF_MEMORY and not _accelerator_failed(reason) and not leaked
        connection.send(("end", outcome, reason, fit))
        _free()
        held = held or _memory()


def _run(job: Job, connection: "Connection[Any, Any]") -> tuple[Outcome, str | None]:
    """The outcome, and the reason of a failure."""
    try:
        objective = resolve(job.objective)
        with closing(objective(Experiment.model_validate(job.experiment), **job.arguments)) as records:
            for record in records:
                connection.send(("epoch", record))
                verdict = connection.recv()
                if verdict is Verdict.INTERRUPT:
                    with suppress(StopIteration):
                        records.send(verdict)  # the training loop saves a checkpoint
                if verdict is not Verdict.GO_ON:
                    return Outcome.STOPPED, None
    except (EOFError, BrokenPipeError):  # the parent is gone
        os._exit(1)
    except BaseException as error:  # whatever a trial does, SystemExit included, is the trial's own failure
        traceback.print_exc()
        message = " ".join(str(error).split())
        outcome = Outcome.OUT_OF_MEMORY if _is_out_of_memory(error) else Outcome.FAILED
        return outcome, f"{type(error).__name__}: {message}" if message else type(error).__name__
    return Outcome.FINISHED, None


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _free() -> None:
    """Give back what the last trial held, on the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _memory() -> int:
    """Bytes of this process alone, on its GPU too; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except OSError:
        return 0
    torch = sys.modules.get("torch")
    on_gpu = torch.cuda.memory_allocated() if torch is not None and torch.cuda.is_available() else 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") + on_gpu


def _accelerator_failed(reason: str | None) -> bool:
    """Whether a GPU reported an error, after which its process can do no more."""
    return reason is not None and ("CUDA" in reason or "AcceleratorError" in reason or "HIP" in reason)


def _exit_with(parent: int) -> None:
    """End this process soon after its parent, even in the middle of an epoch."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    from oialr_hpo.engines import child  # whose classes the parent knows, unlike those of __main__

    child.main()
