"""A worker: the child process that trains, seen from the process that assigns trials and writes them down."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oialr_hpo.engines.child import Job, Verdict
from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.engines.desk import Ticket
from oialr_hpo.engines.early_stopping import Point, stopped
from oialr_hpo.engines.keeping import KeptWeights
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.experiment import Experiment, seconds
from oialr_hpo.experiment.space import Value
from oialr_hpo.files import discard
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.scoring import judge, rate_unfinished
from oialr_hpo.runs.stopwatch import Stopwatch
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.training.faults import Outcome

if TYPE_CHECKING:
    from oialr_hpo.engines.replicas import Followers


FAILURES = {
    Outcome.FAILED: State.FAILED,
    Outcome.OUT_OF_MEMORY: State.OUT_OF_MEMORY,
    Outcome.FAULT: State.INTERRUPTED,
}
"""What a trial becomes whose job did not come to its end."""


@dataclass(frozen=True)
class Search:
    """What every worker of a search shares."""

    experiment: Experiment
    run: RunDirectory
    data_dir: Path | None = None
    deadline: Deadline | None = None  # no trial starts later
    ranks_per_trial: int = 1
    retry: frozenset[State] = frozenset()

    def earlier(self) -> list[Trial]:
        """The trials of earlier sessions; those in a state that is to be tried again are not begun."""
        return [trial.again() if trial.state in self.retry else trial for trial in self.run.trials()]

    def kept(self, earlier: Sequence[Trial]) -> KeptWeights | None:
        """The networks that stay, where some are to; of these trials those that did."""
        return KeptWeights(self.experiment, self.run, earlier) if self.experiment.keep_weights else None

    @property
    def interrupts_now(self) -> bool:
        """Whether running trials are to stop because the time is over."""
        over = self.deadline is not None and self.deadline.passed
        return over and self.experiment.at_time_limit == "interrupt"

    @property
    def trial_timeout(self) -> float | None:
        """In seconds."""
        limit = self.experiment.trial_timeout
        return seconds(limit) if limit else None


@dataclass
class Worker:
    """One training process and the trial it is running.

    Args:
        search: what is searched.
        index: among all workers of the search; names the trial file.
        local_index: among the workers of this node; chooses the device.
        threads: CPU threads of the child.
        stops: see `oialr_hpo.engines.early_stopping.stopped`.
        followers: other ranks that train the same trials.
        process: one to take over, with the same threads.
    """

    search: Search
    index: int
    local_index: int
    threads: int
    stops: Callable[[int, Point, bool], bool]
    followers: "Followers | None" = None
    process: TrainingProcess | None = None
    trial: Trial | None = None
    _epoch: int = 0  # that the process spoke of last; one that does not number its records begins at the first
    _verdict: Verdict = Verdict.GO_ON
    _interrupting: bool = False
    _cut_off: Deadline | None = None  # an interrupted trial that is still in its epoch is killed
    _watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self.log = self.search.run.log(self.index)
        output = self.search.run.output(self.index)
        if self.process:
            self._process = self.process
            self._process.print_to(output)
        else:
            listener = self.followers.listener if self.followers else None
            self._process = TrainingProcess(self.threads, output, listener)

    @property
    def connection(self) -> socket.socket:
        """Readable when the process has news."""
        return self._process.connection

    def wait_until_ready(self) -> None:
        """Wait for the process to be up; from then on the worker's time counts as held."""
        self._process.wait_until_ready()
        self.log.opened()

    def start(self, ticket: Ticket, settings: dict[str, Value]) -> None:
        """Begin a trial with these searched settings."""
        experiment = self.search.experiment.trial(settings)
        if ticket.role is Role.DENSE:
            experiment = experiment.with_settings({"method": "dense"})
        self.trial = Trial(
            number=ticket.number,
            role=ticket.role,
            settings=settings,
            seed=ticket.seed,
            worker=self.index,
            threads=self.threads,
            attempt=ticket.attempt,
            started=time.time(),
            epochs=list(ticket.epochs),
            seconds=ticket.seconds,
            setup_seconds=ticket.setup_seconds,
        )
        self._epoch, self._verdict, self._interrupting, self._cut_off = 0, Verdict.GO_ON, False, None
        self._watch = Stopwatch()
        self.log.start(self.trial)
        arguments = {
            "seed": self.trial.seed,
            "worker": self.local_index,
            "threads": self.threads,
            "data_dir": self.search.data_dir,
            "checkpoint": self.search.run.checkpoint(ticket.number),
        }
        if self.search.experiment.keep_weights and ticket.role is not Role.DENSE:
            arguments["weights"] = self.search.run.weights(ticket.number)
        job = Job(experiment.objective, experiment.fixed().dump(), arguments)
        self._process.submit(self.followers.start(job) if self.followers else job)

    def interrupt(self, cut_off: Deadline | None) -> None:
        """Stop the trial at its next epoch, with a checkpoint; at `cut_off`, without."""
        self._interrupting, self._cut_off = True, cut_off

    def poll(self, timeout: float) -> Trial | None:
        """Handle one message of the process, waiting up to `timeout` seconds; returns the trial when it has ended."""
        assert self.trial is not None
        if self.followers and (failure := self.followers.failure()):
            return self._fail(*failure)
        message = self._process.receive(timeout)
        if message is None:
            return self._overdue()
        kind, *content = message
        if kind == "ready":  # a replaced process's; the first one's was waited for
            self._watch.ready()
            return None
        if kind == "end":
            return self._finish(*content)
        record = {"epoch": self._epoch + 1} | content[0]
        self._epoch = record["epoch"]
        self._watch.tell(record, self.trial)
        self.trial.add(record)
        self.log.epoch(self.trial)
        self._verdict = self._judge()
        self._process.answer(self._verdict)
        if self.followers:
            self.followers.judge(self._verdict)
        return self._overdue()

    def close(self) -> None:
        """Note that the worker is no longer held, and stop the process, between trials or not."""
        try:
            self.log.closed()
            self.log.close()
        finally:
            self._process.close()

    def _judge(self) -> Verdict:
        assert self.trial is not None
        if self._interrupting:
            return Verdict.INTERRUPT
        return Verdict.PAUSE if stopped(self.trial, self.search.experiment, self.stops) else Verdict.GO_ON

    def _overdue(self) -> Trial | None:
        """Kill a trial that takes too long."""
        limit = self.search.trial_timeout
        if limit is not None and self._watch.running > limit:
            reason = f"ran longer than trial_timeout, {self.search.experiment.trial_timeout}"
            return self._fail(Outcome.FAILED, reason, fit=False)
        if self._cut_off is not None and self._cut_off.passed:
            self._process.kill()
            return self._end(State.INTERRUPTED, None, orderly=False)
        return None

    def _finish(self, outcome: Outcome, reason: str | None, fit: bool) -> Trial:
        assert self.trial is not None
        if outcome in FAILURES:
            return self._fail(outcome, reason, fit)
        if not fit:
            self._process.kill()
        if outcome is Outcome.FINISHED:
            judge(self.trial, self.search.experiment)
            return self._end(self.trial.state, self.trial.reason)
        if self._verdict is Verdict.INTERRUPT:
            return self._end(State.INTERRUPTED, None)
        rate_unfinished(self.trial, self.search.experiment.score)
        kept = outcome is Outcome.PAUSED and self.search.run.checkpoint(self.trial.number).exists()
        return self._end(State.PAUSED if kept else State.PRUNED, None)

    def _fail(self, outcome: Outcome, reason: str | None, fit: bool = True) -> Trial:
        """End a trial that did not come to its end; where others train it too, no process is fit for another one."""
        if not fit or self.followers:
            self._process.kill()
        return self._end(FAILURES[outcome], reason, orderly=False)

    def _end(self, state: State, reason: str | None, orderly: bool = True) -> Trial:
        assert self.trial is not None
        if self.followers:
            self.followers.end(kill=not orderly)
        trial, self.trial = self.trial, None
        trial.state, trial.reason = state, reason
        self._watch.stop(trial)
        self.log.end(trial)
        discard(self.search.run.checkpoint(trial.number), partial_only=not trial.state.final)
        return trial


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of `workers` on this node; OMP_NUM_THREADS overrides."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else max(1, len(os.sched_getaffinity(0)) // workers)
