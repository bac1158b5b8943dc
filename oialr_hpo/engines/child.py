"""The process that trains: `python -m oialr_hpo.engines.child FD`.

It takes jobs from its parent over the pipe FD, one after another, and never sees MPI. It answers every job with one
("epoch", record) per record, each of which the parent acknowledges by telling whether to go on, and one
("end", outcome, reason).
"""

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.tasks import resolve


@dataclass(frozen=True)
class Job:
    """One trial for the child: an objective (`package.module:function`) and what to call it with."""

    objective: str
    experiment: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    parent = os.getppid()
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when a trial stops
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(("end", *_run(job, connection)))
        _free()


def _run(job: Job, connection: "Connection[Any, Any]") -> tuple[str, str | None]:
    """Outcome (`finished`, `stopped`, `failed`) and the reason of a failure."""
    try:
        records: Iterator[dict[str, Any]] = resolve(job.objective)(
            Experiment.model_validate(job.experiment), **job.arguments
        )
        for record in records:
            connection.send(("epoch", record))
            if not connection.recv():
                return "stopped", None
    except (EOFError, BrokenPipeError):  # the parent is gone
        os._exit(1)
    except BaseException as error:  # whatever a trial does, SystemExit included, is the trial's own failure
        traceback.print_exc()
        message = " ".join(str(error).split())
        return "failed", f"{type(error).__name__}: {message}" if message else type(error).__name__
    return "finished", None


def _free() -> None:
    """Give back what the last trial held, on the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _exit_with(parent: int) -> None:
    """End this process soon after its parent, even in the middle of an epoch."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
