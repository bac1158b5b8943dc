"""The process that trains: `python -m oialr_hpo.engines.child FD`.

It says ["ready"], then takes jobs from its parent over the socket FD, one after another, and never sees MPI. It answers
every job with one ["epoch", record] per record, each of which the parent answers with a `Verdict`, and one
["end", outcome, reason, fit], where `fit` tells whether this process can take another job. Records are plain numbers
and reasons one line, whatever the trial's code yields or raises.
"""

import gc
import inspect
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from oialr_hpo.engines.channel import ChildEnd, Gone
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment import objective as objectives
from oialr_hpo.extension import resolve
from oialr_hpo.mistake import warn
from oialr_hpo.runs.record import plain
from oialr_hpo.training.faults import Fault, Outcome, explain


class Verdict(Enum):
    """What becomes of a running trial after an epoch."""

    GO_ON = "go on"
    PAUSE = "pause"
    INTERRUPT = "interrupt"


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


@dataclass(frozen=True)
class Output:
    """Where the child prints from now on: a file that is appended to. It answers ["ready"]."""

    file: Path

    def take(self) -> None:
        """Print there; where that cannot be, on as before."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with suppress(OSError), open(self.file, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)


def main() -> None:
    parent = os.getppid()
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when a trial stops
    channel = ChildEnd(int(sys.argv[1]))
    channel.send("ready")
    held = 0  # after the first job: later ones have what it loaded in common
    while True:
        try:
            job = channel.receive()
        except Gone:
            return
        if isinstance(job, Output):
            job.take()
            channel.send("ready")
            continue
        outcome, reason = _run(job, channel)
        leaked = held and _memory() - held > LEAK_BYTES
        if leaked:
            _free()
            leaked = _memory() - held > LEAK_BYTES
        sound = outcome not in (Outcome.OUT_OF_MEMORY, Outcome.FAULT) and not _accelerator_failed(reason)
        channel.send("end", outcome.value, reason, bool(sound and not leaked and _can_print()))
        _free()
        held = held or _memory()


def _run(job: Job, channel: ChildEnd) -> tuple[Outcome, str | None]:
    """The outcome, and the reason of a failure."""
    try:
        with _undone():
            objective = resolve(job.objective)
            arguments = _taken(objective, job.arguments)
            records = objectives.records(objective(Experiment.model_validate(job.experiment), **arguments))
            with _closed(records):
                for record in records:
                    channel.send("epoch", plain(record))
                    verdict = channel.receive()
                    if verdict is not Verdict.GO_ON:
                        return _stopped(records, verdict, objective), None
    except Gone:
        os._exit(1)
    except BaseException as error:  # whatever a trial does, SystemExit included, is the trial's own failure
        with suppress(BaseException):
            traceback.print_exc()
        return explain(error)
    return Outcome.FINISHED, None


def _taken(objective: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without `weights`, where an objective of the user's does not take them: it keeps no network."""
    if "weights" not in arguments:
        return arguments
    try:
        inspect.signature(objective).bind_partial(weights=None)
    except (TypeError, ValueError):
        name = getattr(objective, "__name__", objective)
        warn(f"keep_weights: {name} takes no argument weights, the file for a trained network: none is kept")
        return {key: value for key, value in arguments.items() if key != "weights"}
    return arguments


def _stopped(records: Iterable[Any], verdict: Verdict, objective: Callable[..., Any]) -> Outcome:
    """How a job ends that goes no further now: where it can, it keeps itself, as the training loop does.

    An objective that does not know `checkpoint` has nothing to go on from later: to be paused, it is not asked.

    Raises:
        Fault: it is interrupted and cannot be kept.
    """
    pauses = verdict is Verdict.PAUSE
    if not isinstance(records, Generator) or (pauses and "checkpoint" not in inspect.signature(objective).parameters):
        return Outcome.STOPPED
    try:
        records.send(verdict)
    except StopIteration:
        return Outcome.PAUSED if pauses else Outcome.STOPPED
    except Fault as fault:
        if not pauses:
            raise
        warn(f"{fault}; the trial cannot go on later")
    return Outcome.STOPPED


@contextmanager
def _undone() -> Iterator[None]:
    """What a trial's code changes in its process for good, and the next trial would not expect, is put back."""
    directory = os.getcwd()
    streams = sys.stdout, sys.stderr
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.stdout, sys.stderr = streams
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(directory)


@contextmanager
def _closed(records: object) -> Iterator[None]:
    """Closes a generator afterwards."""
    try:
        yield
    finally:
        if isinstance(records, Generator):
            records.close()


def _can_print() -> bool:
    """Whether a trial left the standard streams usable."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _free() -> None:
    """Give back what the last trial held, on the GPU too; one that has failed gives nothing back."""
    gc.collect()
    torch = sys.modules.get("torch")
    with suppress(RuntimeError):
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _memory() -> int:
    """Bytes of this process alone, on all GPUs too; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except OSError:
        return 0
    torch = sys.modules.get("torch")
    on_gpus = 0
    if torch is not None and torch.cuda.is_initialized():
        on_gpus = sum(map(torch.cuda.memory_allocated, range(torch.cuda.device_count())))
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") + on_gpus


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
