"""A worker: the child process that trains, seen from the process that assigns trials and writes them down."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path

from oialr_hpo.engines.child import Job, Outcome, Verdict
from oialr_hpo.engines.desk import Ticket
from oialr_hpo.engines.early_stopping import Point, curve, due
from oialr_hpo.experiment import Experiment, seconds
from oialr_hpo.space import Value
from oialr_hpo.trial import Role, RunDirectory, State, Trial, goals, judge

# What an MPI launcher leaves in the environment; a child that inherits it could take itself for a rank.
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "MPIR_", "HYDRA_", "HYDI_")


@dataclass(frozen=True)
class Search:
    """What every worker of a search shares."""

    experiment: Experiment
    run: RunDirectory
    data_dir: Path | None = None
    deadline: float | None = None  # in time.time(): no trial starts later
    objective: str = "oialr_hpo.objective:evaluate"

    @property
    def interrupts_now(self) -> bool:
        """Whether running trials are to stop because the time is over."""
        over = self.deadline is not None and time.time() >= self.deadline
        return over and self.experiment.at_time_limit == "interrupt"

    @property
    def trial_timeout(self) -> float | None:
        """In seconds."""
        limit = self.experiment.trial_timeout
        return seconds(limit) if limit else None


@dataclass
class Worker:
    """One child process and the trial it is running.

    Args:
        search: what is searched.
        index: among all workers of the search; names the trial file.
        local_index: among the workers of this node; chooses the device.
        threads: CPU threads of the child.
        stops: told the trial's number and its newest point after every epoch, and whether the trial is to be judged
            there; answers whether it stops early.
    """

    search: Search
    index: int
    local_index: int
    threads: int
    stops: Callable[[int, Point, bool], bool]
    trial: Trial | None = None
    _verdict: Verdict = Verdict.GO_ON
    _interrupting: bool = False
    _cut_off: float | None = None  # in time.time(): an interrupted trial that is still in its epoch is killed
    _began: float = 0.0
    _child: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.log = self.search.run.log(self.index)
        self._spawn()

    def wait_until_ready(self) -> None:
        """Wait for the child to be up; from then on the worker's time counts as held."""
        with suppress(EOFError, ConnectionResetError):  # its death is the first trial's failure
            self.connection.recv()
        self.log.worker("open")

    def start(self, ticket: Ticket, settings: dict[str, Value]) -> None:
        """Begin a trial with these searched settings; a child that died or was killed is replaced."""
        if self._child is None or self._child.poll() is not None:
            self._spawn()
        experiment = self.search.experiment.with_settings(settings)
        if ticket.role is Role.DENSE:
            experiment = experiment.with_settings({"method": "dense"})
        self.trial = Trial(
            number=ticket.number,
            role=ticket.role,
            settings=settings,
            seed=ticket.seed,
            worker=self.index,
            threads=self.threads,
            started=time.time(),
            epochs=list(ticket.epochs),
            seconds=ticket.seconds,
        )
        self._verdict, self._interrupting, self._cut_off = Verdict.GO_ON, False, None
        self._began = time.monotonic()
        self.log.start(self.trial)
        arguments = {
            "seed": ticket.seed,
            "worker": self.local_index,
            "threads": self.threads,
            "data_dir": self.search.data_dir,
            "checkpoint": self.search.run.checkpoint(ticket.number),
        }
        with suppress(BrokenPipeError):  # `poll` tells how the child died
            self.connection.send(Job(self.search.objective, experiment.fixed().dump(), arguments))

    def interrupt(self, cut_off: float | None) -> None:
        """Stop the trial at its next epoch, with a checkpoint; at the time `cut_off`, without."""
        self._interrupting, self._cut_off = True, cut_off

    def poll(self, timeout: float) -> Trial | None:
        """Handle one message of the child, waiting up to `timeout` seconds; returns the trial when it has ended."""
        assert self.trial is not None
        if not self.connection.poll(timeout):
            return self._overdue()
        try:
            kind, *content = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._end(State.FAILED, self._death())
        if kind == "ready":  # a replaced child's; the first one's was waited for
            self._began = time.monotonic()
            return None
        if kind == "end":
            return self._finish(*content)
        self.trial.add(content[0])
        self.log.epoch(self.trial)
        self._verdict = self._judge()
        try:
            self.connection.send(self._verdict)
        except BrokenPipeError:
            return self._end(State.FAILED, self._death())
        return self._overdue()

    def close(self) -> None:
        """Stop the child, between trials or not, and note that the worker is no longer held."""
        if self._child is not None:
            self.connection.close()
            try:
                self._child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._kill()
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

    def _judge(self) -> Verdict:
        assert self.trial is not None
        if self._interrupting:
            return Verdict.INTERRUPT
        experiment = self.search.experiment
        settings = experiment.early_stopping
        if not settings.enabled or not (points := curve(self.trial, experiment)):
            return Verdict.GO_ON
        judged = self.trial.role is Role.PROPOSAL and due(points, settings)  # the others are there to be compared with
        return Verdict.PRUNE if self.stops(self.trial.number, points[-1], judged) else Verdict.GO_ON

    def _overdue(self) -> Trial | None:
        """Kill a trial that takes too long."""
        limit = self.search.trial_timeout
        if limit is not None and time.monotonic() - self._began > limit:
            self._kill()
            return self._end(State.FAILED, f"ran longer than trial_timeout, {self.search.experiment.trial_timeout}")
        if self._cut_off is not None and time.time() > self._cut_off:
            self._kill()
            return self._end(State.INTERRUPTED, None)
        return None

    def _finish(self, outcome: Outcome, reason: str | None, fit: bool) -> Trial:
        assert self.trial is not None
        if not fit:
            self._kill()
        if outcome is Outcome.FAILED:
            return self._end(State.FAILED, reason)
        if outcome is Outcome.OUT_OF_MEMORY:
            return self._end(State.OUT_OF_MEMORY, reason)
        if outcome is Outcome.FINISHED:
            judge(self.trial, self.search.experiment)
            return self._end(self.trial.state, self.trial.reason)
        if self._verdict is Verdict.INTERRUPT:
            return self._end(State.INTERRUPTED, None)
        self.trial.metrics = self.trial.epochs[-1]
        self.trial.scores = goals(self.trial.metrics, self.search.experiment.score)
        return self._end(State.PRUNED, None)

    def _end(self, state: State, reason: str | None) -> Trial:
        assert self.trial is not None
        trial, self.trial = self.trial, None
        trial.state, trial.reason = state, reason
        trial.seconds += time.time() - trial.started
        self.log.end(trial)
        if trial.finished:
            self.search.run.checkpoint(trial.number).unlink(missing_ok=True)
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

    def _kill(self) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.wait()
        self._child = None
        self.connection.close()


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of `workers` on this node; OMP_NUM_THREADS overrides."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else max(1, len(os.sched_getaffinity(0)) // workers)
