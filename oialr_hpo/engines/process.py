"""The process that trains, seen from the process that gives it jobs."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from oialr_hpo.engines.channel import Gone, pair
from oialr_hpo.engines.child import Job, Output, Verdict
from oialr_hpo.mistake import reason
from oialr_hpo.training import faults
from oialr_hpo.training.faults import Fault, Outcome

# What an MPI launcher leaves in the environment; a child that inherits it could take itself for a rank.
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "MPIR_", "HYDRA_", "HYDI_")
ENDING_SECONDS = 5.0
"""What a process that gets no more jobs has to end by itself."""
DYING_SECONDS = 2.0
"""The same for one that has closed its connection."""


class TrainingProcess:
    """A child process that runs one job after another; one that died or was killed is replaced for the next job.

    Args:
        threads: CPU threads of the child.
        log: file that what it prints is appended to; None: nowhere, until `print_to`.
        listener: a socket that the child inherits.

    Attributes:
        device: what its last record says that it trains on, if it does.
    """

    device: str | None = None

    def __init__(self, threads: int, log: Path | None = None, listener: socket.socket | None = None):
        self._threads, self._log, self._listener = threads, log, listener
        self._child: subprocess.Popen[bytes] | None = None
        self._spawn()

    @property
    def connection(self) -> socket.socket:
        """Readable when the child has news."""
        return self._channel.socket

    def wait_until_ready(self) -> None:
        """Wait for the child to be up; its death is the first job's failure."""
        while self._child is not None and self._child.poll() is None and self.receive(timeout=1.0) is None:
            pass

    def print_to(self, log: Path) -> None:
        """Append what it prints to a file from now on; it gets ready anew."""
        self._log = log
        if self._child is not None:
            log.parent.mkdir(exist_ok=True)
            self._channel.send(Output(log))

    def submit(self, job: Job) -> None:
        """Give it a job; `receive` tells how that goes.

        Raises:
            Fault: a new process was needed and could not be started.
        """
        if self._child is None or self._child.poll() is not None:
            self._spawn()
        self._channel.send(job)

    def receive(self, timeout: float) -> tuple[Any, ...] | None:
        """The child's next message, or None after `timeout` seconds.

        Returns:
            ("ready",), ("epoch", record) or ("end", outcome, reason, fit), see `oialr_hpo.engines.child`. Its death is
            the end of its job, and so is anything else that it says.
        """
        try:
            message = self._channel.receive(timeout)
            if message is None and self._child is not None and self._child.poll() is not None:
                message = self._channel.receive(0)  # what it said last; its own children may keep the socket open
                if message is None:
                    raise Gone
            match checked := _checked(message):
                case ("epoch", {"device": str() as device}):
                    self.device = device
            return checked
        except Gone:
            return "end", *self._death(), True
        except ValueError:
            self.kill()
            return "end", Outcome.FAILED, "what its process sent to the search is no message", True

    def answer(self, verdict: Verdict) -> None:
        """Tell it what becomes of its job after an epoch."""
        self._channel.send(verdict)

    def kill(self) -> None:
        """End it at once, in the middle of its job or not."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
            self._channel.close()

    def close(self) -> None:
        """Let it end, and end it where it does not."""
        if self._child is not None:
            self._channel.close()
            self._wait(ENDING_SECONDS)
            self._child = None

    def _spawn(self) -> None:
        environment = child_environment() | {"OMP_NUM_THREADS": str(self._threads)}
        try:
            self._channel, child_end = pair()
            inherited = [child_end.fileno()] + ([self._listener.fileno()] if self._listener else [])
            if self._log:
                self._log.parent.mkdir(exist_ok=True)
            with child_end, open(self._log or os.devnull, "ab") as output:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "oialr_hpo.engines.child", str(child_end.fileno())],
                    pass_fds=inherited,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        except OSError as error:
            where = f" with {self._log} for what it prints" if error.filename else ""
            what = f"no training process can be started{where}: {reason(error)}"
            raise Fault(f"{what}; mend that, --resume goes on") from None

    def _death(self) -> tuple[Outcome, str]:
        """How it died."""
        assert self._child is not None
        self._channel.close()
        ended = self._wait(DYING_SECONDS)
        status = self._child.returncode
        self._child = None
        return faults.death(status) if ended else (Outcome.FAILED, "the training process closed its connection")

    def _wait(self, patience: float) -> bool:
        """Until it has ended; whether it did so by itself within so many seconds."""
        assert self._child is not None
        try:
            self._child.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            return False
        return True


def child_environment() -> dict[str, str]:
    """This process's without what makes a rank of it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # whatever a trial prints
    environment.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look through all installed packages
    return environment


def _checked(message: list[Any] | None) -> tuple[Any, ...] | None:
    """A message that is one of the three.

    Raises:
        ValueError: it is not.
    """
    match message:
        case None:
            return None
        case ["ready"]:
            return ("ready",)
        case ["epoch", dict() as record]:
            return "epoch", record
        case ["end", str() as outcome, str() | None as reason, bool() as fit]:
            return "end", Outcome(outcome), reason, fit
    raise ValueError("no message of a training process")
