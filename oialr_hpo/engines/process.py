"""The process that trains, seen from the process that gives it jobs."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from oialr_hpo.engines.child import Job, Outcome, Verdict

# What an MPI launcher leaves in the environment; a child that inherits it could take itself for a rank.
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "MPIR_", "HYDRA_", "HYDI_")


class TrainingProcess:
    """A child process that runs one job after another; one that died or was killed is replaced for the next job.

    Args:
        threads: CPU threads of the child.
        log: file that what it prints is appended to.
        listener: a socket that the child inherits.
    """

    def __init__(self, threads: int, log: Path, listener: socket.socket | None = None):
        self._threads, self._log, self._listener = threads, log, listener
        self._child: subprocess.Popen[bytes] | None = None
        self._spawn()

    def wait_until_ready(self) -> None:
        """Wait for the child to be up."""
        with suppress(EOFError, ConnectionResetError):  # its death is the first job's failure
            self.connection.recv()

    def submit(self, job: Job) -> None:
        """Give it a job; `receive` tells how that goes."""
        if self._child is None or self._child.poll() is not None:
            self._spawn()
        with suppress(BrokenPipeError):
            self.connection.send(job)

    def receive(self, timeout: float) -> tuple[Any, ...] | None:
        """The child's next message, see `oialr_hpo.engines.child`, or None after `timeout` seconds.

        Its death is an ("end", Outcome.FAILED, reason, True).
        """
        if not self.connection.poll(timeout):
            return None
        try:
            message: tuple[Any, ...] = self.connection.recv()
            return message
        except (EOFError, ConnectionResetError):
            return "end", Outcome.FAILED, self._death(), True

    def answer(self, verdict: Verdict) -> None:
        """Tell it what becomes of its job after an epoch."""
        with suppress(BrokenPipeError):
            self.connection.send(verdict)

    def kill(self) -> None:
        """End it at once, in the middle of its job or not."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
            self.connection.close()

    def close(self) -> None:
        """Let it end, and end it where it does not."""
        if self._child is not None:
            self.connection.close()
            try:
                self._child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()
            self._child = None

    def _spawn(self) -> None:
        self.connection, child_end = Pipe()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
        environment["OMP_NUM_THREADS"] = str(self._threads)
        environment.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look through all installed packages
        inherited = [child_end.fileno()] + ([self._listener.fileno()] if self._listener else [])
        self._log.parent.mkdir(exist_ok=True)
        with open(self._log, "ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "oialr_hpo.engines.child", str(child_end.fileno())],
                pass_fds=inherited,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        child_end.close()

    def _death(self) -> str:
        """How it died, in words."""
        assert self._child is not None
        self.connection.close()
        status = self._child.wait()
        self._child = None
        if status < 0:
            return f"the training process was killed by {signal.Signals(-status).name}"
        return f"the training process ended with exit status {status}"
