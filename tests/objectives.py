"""Objectives without a network, for tests of the engines: they run where the trials of a search run."""

import math
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from oialr_hpo.experiment import Experiment


def bowl(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """A bowl with its lowest point at cutoff 0.1 and delay 0.3; three records."""
    depth = math.log10(experiment.oialr.cutoff / 0.1) ** 2 + (experiment.oialr.delay - 0.3) ** 2
    for epoch in (1, 2, 3):
        yield {"epoch": epoch, "error": depth + 1 / epoch - 1 / 3, "trainable_percent": 10.0}


def hazards(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """A bowl in which a third of the trials end badly, each in another way."""
    yield {"epoch": 1, "error": 0.5, "trainable_percent": 10.0}
    if seed % 18 == 0:
        raise RuntimeError("the trial raised\non two lines")
    if seed % 18 == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if seed % 18 == 6:
        os._exit(7)
    if seed % 18 == 9:
        raise SystemExit(3)
    time.sleep(0.005)
    error = {12: math.nan, 15: math.inf}.get(seed % 18, experiment.oialr.cutoff)
    yield {"epoch": 2, "error": error, "trainable_percent": 10.0}


def slow(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Twelve epochs of half a second."""
    for _ in range(12):
        time.sleep(0.5)
        yield {"error": 0.5, "trainable_percent": 10.0}


def pids(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Tells which process trains, then hangs."""
    yield {"error": 0.5, "trainable_percent": 10.0, "process": os.getpid()}
    time.sleep(600)


def hangs(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Every second trial never ends."""
    if seed % 2 == 0:
        time.sleep(600)
    yield {"error": 0.5, "trainable_percent": 10.0}


def greedy(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Wants more memory than there is."""
    yield {"error": float(len(bytearray(2**62))), "trainable_percent": 10.0}


LEAK: list[bytearray] = []


def leaks(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Keeps 1.1 GB for good in its third trial."""
    if seed == 2:
        LEAK.append(bytearray(b"x") * 1_100_000_000)
    yield {"error": 0.5, "trainable_percent": 10.0, "process": os.getpid()}
