"""The desk of a search over MPI: rank 0 has it, the other ranks send it messages."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.engines.desk import Desk, Ticket
from oialr_hpo.engines.early_stopping import Point
from oialr_hpo.engines.mpi import Comm, arrived, sleep_until, wait_for_all
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.runs.trial import State, Trial

TICKET_REQUEST, TICKET, REPORT, VERDICT, ENDED, STOP, DONE = range(1, 8)


class LocalDesk:
    """The desk as rank 0 uses it, between answering the other ranks."""

    POLL_SECONDS = 0.005

    def __init__(self, comm: Comm, desk: Desk, stop: StopRequest):
        self._comm, self._desk, self._stop = comm, desk, stop
        self._others = set(range(1, self._comm.size))  # that still work
        self._told = False
        self._proposed: NDArray[np.float64] | None = None

    def request(self, genes: NDArray[np.float64]) -> None:
        """Ask for a ticket, which `next` then gives: with the proposal's (d,) genes, or those that take their place."""
        self._proposed = genes

    def next(self) -> Ticket | None:
        """The next ticket, or None when the budget is spent."""
        self.serve()
        return self._desk.next(self._proposed)

    def stops(self, number: int, point: Point, judged: bool) -> bool:
        """Report a running trial's newest point; where it is judged, whether it stops early."""
        self._desk.report(number, point)
        return judged and self._desk.stops(number)

    def ended(self, trial: Trial) -> None:
        self._desk.ended(trial)

    def serve(self) -> None:
        """Handle what has arrived from other ranks."""
        self._desk.tick()
        if self._stop.received and not self._told:
            self._told = True
            self._desk.stop()
            for rank in self._others:
                self._comm.send(self._stop.deadline, dest=rank, tag=STOP)
        for source, tag, message in arrived(self._comm):
            if tag == TICKET_REQUEST:
                self._comm.send(self._desk.next(message), dest=source, tag=TICKET)
            elif tag == REPORT:
                number, point, judged = message
                stops = self.stops(number, point, judged)
                if judged:
                    self._comm.send(stops, dest=source, tag=VERDICT)
            elif tag == ENDED:
                self._desk.ended(message)
            elif tag == STOP:
                self._stop.received, self._stop.deadline = message
            else:
                self._others.remove(source)

    def close(self) -> None:
        """Serve until every other rank has ended its last trial."""
        while self._others:
            self.serve()
            time.sleep(self.POLL_SECONDS)
        self._desk.close()
        wait_for_all(self._comm)


class RemoteDesk:
    """The desk as the other ranks use it; see `LocalDesk`."""

    POLL_SECONDS = 0.2  # between looks at signals; the own trial's messages are heard at once

    def __init__(self, comm: Comm, stop: StopRequest):
        self._comm, self._stop = comm, stop
        self._told = False

    def request(self, genes: NDArray[np.float64]) -> None:
        self.serve()
        self._comm.send(genes, dest=0, tag=TICKET_REQUEST)

    def next(self) -> Ticket | None:
        return self._receive(TICKET)

    def stops(self, number: int, point: Point, judged: bool) -> bool:
        self._comm.send((number, point, judged), dest=0, tag=REPORT)
        return bool(judged and self._receive(VERDICT))

    def ended(self, trial: Trial) -> None:
        goes_on = trial.state is State.PAUSED  # on any rank, with all of its records
        self._comm.send(trial if goes_on else replace(trial, epochs=trial.epochs[-1:]), dest=0, tag=ENDED)

    def serve(self) -> None:
        """Pass a request to stop on: the launcher may have signalled some ranks only."""
        if self._stop.received and not self._told:
            self._told = True
            self._comm.send((self._stop.received, self._stop.deadline), dest=0, tag=STOP)
        if self._comm.iprobe(source=0, tag=STOP):
            cut_off = self._comm.recv(source=0, tag=STOP)
            self._told = True
            if not self._stop.received:
                self._stop.received, self._stop.deadline = "rank 0", cut_off

    def close(self) -> None:
        self._comm.send(None, dest=0, tag=DONE)
        wait_for_all(self._comm)

    def _receive(self, tag: int) -> Any:
        sleep_until(lambda: self._comm.iprobe(source=0, tag=tag), longest=0.005)
        return self._comm.recv(source=0, tag=tag)
