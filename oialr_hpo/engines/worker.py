"""A worker: the child process that trains, seen from the process that assigns trials and writes them down."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing import Pipe
from pathlib import Path

from oialr_hpo.engines.child import Job
from oialr_hpo.experiment import Experiment
from oialr_hpo.trial import Assignment, Role, RunDirectory, State, Trial, judge

# What an MPI launcher leaves in the environment; a child that inherits it could take itself for a rank.
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "MPIR_", "HYDRA_", "HYDI_")


class Verdict(Enum):
    """What becomes of a running trial after an epoch."""

    GO_ON = "go on"
    PRUNE = "prune"
    INTERRUPT = "interrupt"


@dataclass(frozen=True)
class Search:
    """What every worker of a search shares."""

    experiment: Experiment
    run: RunDirectory
    data_dir: Path | None = None
    deadline: float | None = None  # in time.time(): no trial starts later
    objective: str = "oialr_hpo.objective:evaluate"


@dataclass
class Worker:
    """One child process and the trial it is running.

    Args:
        search: what is searched.
        index: among all workers of the search; names the trial file.
        local_index: among the workers of this node; chooses the device.
        threads: CPU threads of the child.
        decide: called after every epoch with the running trial.
    """

    search: Search
    index: int
    local_index: int
    threads: int
    decide: Callable[[Trial], Verdict] = lambda trial: Verdict.GO_ON
    trial: Trial | None = None
    _verdict: Verdict = Verdict.GO_ON
    _child: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.log = self.search.run.log(self.index)
        self.log.worker("open")

    def start(self, assignment: Assignment) -> None:
        """Begin a trial; the child is started, or restarted, if there is none."""
        if self._child is None:
            self._spawn()
        experiment = self.search.experiment.with_settings(assignment.settings)
        if assignment.role is Role.DENSE:
            experiment = experiment.with_settings({"method": "dense"})
        self.trial = Trial(
            number=assignment.number,
            role=assignment.role,
            settings=assignment.settings,
            seed=assignment.seed,
            worker=self.index,
            threads=self.threads,
            started=time.time(),
        )
        self._verdict = Verdict.GO_ON
        self.log.start(self.trial)
        arguments = {
            "seed": assignment.seed,
            "worker": self.local_index,
            "threads": self.threads,
            "data_dir": self.search.data_dir,
        }
        self.connection.send(Job(self.search.objective, experiment.fixed().dump(), arguments))

    def poll(self, timeout: float) -> Trial | None:
        """Handle one message of the child, waiting up to `timeout` seconds; returns the trial when it has ended."""
        if not self.connection.poll(timeout):
            return None
        try:
            kind, *content = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._end(State.FAILED, self._death())
        assert self.trial is not None
        if kind == "end":
            return self._finish(*content)
        record = content[0]
        self.trial.epochs.append(record)
        self.log.epoch(self.trial, record)
        self._verdict = self.decide(self.trial)
        try:
            self.connection.send(self._verdict is Verdict.GO_ON)
        except BrokenPipeError:
            return self._end(State.FAILED, self._death())
        return None

    def close(self) -> None:
        """Stop the child, between trials or not, and note that the worker is no longer held."""
        if self._child is not None:
            self.connection.close()
            try:
                self._child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None
        self.log.worker("close")
        self.log.close()

    def _spawn(self) -> None:
        self.connection, child_end = Pipe()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
        environment["OMP_NUM_THREADS"] = str(self.threads)
        logs = self.search.run.path / "logs"
        logs.mkdir(exist_ok=True)
        with open(logs / f"rank-{self.index:04d}.log", "ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "oialr_hpo.engines.child", str(child_end.fileno())],
                pass_fds=[child_end.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        child_end.close()

    def _finish(self, outcome: str, reason: str | None) -> Trial:
        assert self.trial is not None
        if outcome == "failed":
            return self._end(State.FAILED, reason)
        if outcome == "stopped":
            state = State.PRUNED if self._verdict is Verdict.PRUNE else State.INTERRUPTED
            return self._end(state, None)
        judge(self.trial, self.search.experiment)
        return self._end(self.trial.state, self.trial.reason)

    def _end(self, state: State, reason: str | None) -> Trial:
        assert self.trial is not None
        trial, self.trial = self.trial, None
        trial.state, trial.reason, trial.seconds = state, reason, time.time() - trial.started
        self.log.end(trial)
        return trial

    def _death(self) -> str:
        """How the child died, in words; the next trial gets a new one."""
        assert self._child is not None
        self.connection.close()
        status = self._child.wait()
        self._child = None
        if status < 0:
            return f"the training process was killed by {signal.Signals(-status).name}"
        return f"the training process ended with exit status {status}"


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of `workers` on this node; OMP_NUM_THREADS overrides."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else max(1, len(os.sched_getaffinity(0)) // workers)
