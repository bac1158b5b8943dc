"""Trials that several MPI ranks train together: the first rank of each group leads, the others follow.

Every rank has a child process that trains. The leader's worker decides: it passes each job and, after every epoch, its
verdict on to the followers, which pass them to their children. A rank whose trial fails tells the leader, which ends
the trial on all of them. The children meet at a socket that the leader's own child inherits, so that no port has to be
guessed.
"""

import socket
import time

from mpi4py import MPI

from oialr_hpo.engines.child import Job, Verdict
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.training.faults import Outcome
from oialr_hpo.training.replica import Replica

JOB, VERDICT, END, QUIT, FAILED, READY, STOP = range(1, 8)
PATIENCE = 10.0  # seconds in which a follower's child is expected to end what the leader's has ended
POLL_SECONDS = 0.02


class Followers:
    """The followers of this rank's group, as its leader sees them.

    Args:
        group: the leader, rank 0, and at least one follower.
        stop: which the followers' signals are added to.
    """

    def __init__(self, group: MPI.Comm, stop: StopRequest):
        self._group, self._stop = group, stop
        self._ranks = range(1, group.size)
        self._jobs = 0
        self.listener = socket.create_server(("", 0), backlog=group.size)
        names = group.allgather(MPI.Get_processor_name())  # `follow` answers
        self._host = "127.0.0.1" if len(set(names)) == 1 else names[0]

    def start(self, job: Job) -> Job:
        """Pass a job on; returns the leader's own part of it."""
        self._jobs += 1
        port = self.listener.getsockname()[1]
        own = Replica(0, self._group.size, self._host, port, self.listener.fileno(), key=str(self._jobs))
        for rank in self._ranks:
            self._group.send(job.with_arguments(replica=own._replace(rank=rank, listener=None)), dest=rank, tag=JOB)
        return job.with_arguments(replica=own)

    def judge(self, verdict: Verdict) -> None:
        """Pass the verdict on the last epoch on."""
        for rank in self._ranks:
            self._group.send(verdict, dest=rank, tag=VERDICT)

    def failure(self) -> tuple[Outcome, str] | None:
        """How the job failed on a follower, if it did."""
        if self._group.iprobe(tag=STOP):
            self._stop.received, self._stop.deadline = self._group.recv(tag=STOP)
        return self._group.recv(tag=FAILED) if self._group.iprobe(tag=FAILED) else None

    def end(self, kill: bool) -> None:
        """Wait until the job has ended on all followers; with `kill` at once, by killing their processes."""
        for rank in self._ranks:
            self._group.send(kill, dest=rank, tag=END)
        for rank in self._ranks:
            while not self._group.iprobe(source=rank, tag=READY):
                time.sleep(0.001)
            self._group.recv(source=rank, tag=READY)
        while self.failure():
            pass  # of the job that has ended, too late to matter

    def close(self) -> None:
        """Let the followers go."""
        for rank in self._ranks:
            self._group.send(None, dest=rank, tag=QUIT)
        self.listener.close()


def follow(group: MPI.Comm, process: TrainingProcess, local_index: int, threads: int, stop: StopRequest) -> None:
    """Take part in the trials of the group's leader until it has no more.

    Args:
        group: of this trial's ranks; the leader is rank 0.
        process: which trains here.
        local_index: among the ranks of this node; chooses the device.
        threads: CPU threads of the process.
        stop: signals to this rank, which the leader is told of.
    """
    group.allgather(MPI.Get_processor_name())
    process.wait_until_ready()
    told = busy = asking = False
    ending: float | None = None  # until when the process may end its job by itself
    while True:
        message = process.receive(POLL_SECONDS) if busy else None
        if not busy:
            time.sleep(POLL_SECONDS)
        if message and message[0] == "epoch":
            asking = True
        elif message and message[0] == "end":
            _, outcome, reason, fit = message
            busy = asking = False
            if outcome not in (Outcome.FINISHED, Outcome.STOPPED, Outcome.PAUSED):
                group.send((outcome, f"on rank {group.rank} of the trial: {reason}"), dest=0, tag=FAILED)
            if not fit:
                process.kill()
        if stop.received and not told:
            told = True
            group.send((stop.received, stop.deadline), dest=0, tag=STOP)
        if asking and group.iprobe(source=0, tag=VERDICT):
            process.answer(group.recv(source=0, tag=VERDICT))
            asking = False
        if group.iprobe(source=0, tag=JOB):
            process.submit(group.recv(source=0, tag=JOB).with_arguments(worker=local_index, threads=threads))
            busy = True
        if group.iprobe(source=0, tag=END):
            ending = 0.0 if group.recv(source=0, tag=END) else time.monotonic() + PATIENCE
        if ending is not None and (not busy or time.monotonic() > ending):
            if busy or not ending:
                process.kill()
            while group.iprobe(source=0, tag=VERDICT):
                group.recv(source=0, tag=VERDICT)
            busy = asking = False
            ending = None
            group.send(None, dest=0, tag=READY)
        if group.iprobe(source=0, tag=QUIT):
            return
