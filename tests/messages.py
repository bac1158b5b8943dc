"""What trials say that is no record, and do to their process: one objective per search, whose seed tells the deed."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from oialr_hpo.experiment import Experiment


class Only(str, Enum):
    ERROR = "error"


class Mute(Exception):
    """Does nothing that an exception is asked for."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__

    def __reduce__(self) -> str:
        raise RuntimeError("no pickle")


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __float__(self) -> float:
        raise KeyError("no number")


def raising(error: Callable[[], BaseException]) -> Iterator[Any]:
    yield {"error": 0.5}
    raise error()


def doing(deed: Callable[[], object], *more: Callable[[], object]) -> Iterator[Any]:
    yield {"error": 0.5}
    for each in (deed, *more):
        each()
    yield {"error": 0.25}


def stubborn() -> Iterator[Any]:
    try:
        yield {"error": [1]}
    finally:
        yield {"error": 0.5}


def forked() -> None:
    if os.fork() == 0:
        raise SystemExit(0)


def closed_and_alive() -> None:
    os.closerange(3, 256)
    time.sleep(60)


def survivor() -> None:
    """Leaves a process behind that keeps everything open, and ends."""
    if os.fork() == 0:
        time.sleep(8)
        os._exit(0)
    os._exit(7)


def garbage(text: bytes) -> None:
    """Says something on every socket that is open."""
    for descriptor in range(3, 64):
        try:
            socket.socket(fileno=os.dup(descriptor)).send(text)
        except OSError:
            continue


def local() -> BaseException:
    class Local(Exception):
        def __init__(self, one: int, two: int):
            super().__init__("only here")

    return Local(1, 2)


def once(record: Any) -> Iterator[Any]:
    yield record


GOOD: list[Callable[[], Any]] = [
    lambda: once({"error": np.float32(0.25)}),
    lambda: once({"error": np.array([[0.25]])}),
    lambda: once({"error": Decimal("0.25"), "more": Fraction(1, 4), "flag": True, "none": np.bool_(False)}),
    lambda: once(OrderedDict({Only.ERROR: 0.25})),
    lambda: [{"error": 0.5}, {"error": 0.25}],
    lambda: once({"error": 0.25, "nothing": float("nan"), "much": float("inf"), "ranks": {"a": float("nan")}}),
    lambda: once({"error": 0.25, "state": 1, "number": 99, "event": 3, "time": -1, "scores": 0, "score": 7}),
    lambda: doing(lambda: print("\ud800\x00\x1b[2J" * 3), lambda: print("x" * 10**7)),
    lambda: doing(lambda: os.write(1, b"\xff\x00" * 1000), lambda: logging.disable(logging.CRITICAL)),
    lambda: doing(lambda: warnings.simplefilter("error"), lambda: os.chdir("/")),
    lambda: doing(lambda: setattr(sys, "stdout", None), lambda: setattr(sys, "stderr", None)),
    lambda: doing(forked),
    lambda: doing(lambda: subprocess.run(["true"]), lambda: signal.alarm(0)),
]  # fmt: skip

BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: once({"error": "0.5"}), "the metric 'error' is the text '0.5', not a number"),
    (lambda: once({"error": None}), "the metric 'error' is None, not a number"),
    (lambda: once({"error": [0.5]}), "the metric 'error' is a list, not a number"),
    (lambda: once({"error": np.zeros(2)}), "the metric 'error' is a ndarray of shape (2,), not a number"),
    (lambda: once({"error": 1j}), "the metric 'error' is a complex, not a number"),
    (lambda: once({"error": np.complex64(1)}), "the metric 'error' is a complex64, not a number"),
    (lambda: once({"error": 10**400}), "the metric 'error' is too large for a number"),
    (lambda: once({"error": Fraction(10**400)}), "the metric 'error' is too large for a number"),
    (lambda: once({"error": Odd()}), "the metric 'error' is an Odd, not a number (KeyError: 'no number')"),
    (lambda: once({"error": {"a": 1}}), "the metric 'error' is a dict, not a number"),
    (lambda: once({"error": lambda: 1}), "the metric 'error' is a function, not a number"),
    (lambda: once({1: 0.5}), "a metric is called by an int; names are texts"),
    (lambda: once({"\ud800": 0.5}), "a metric is called '\\ud800'; names are 1 to 100 printable characters"),
    (lambda: once({"error": 0.5, "epoch": 2.5}), "the metric 'epoch' is 2.5, not a whole number above zero"),
    (lambda: once({"error": 0.5, "ranks": 3}), "the metric 'ranks' is an int, not a dict of numbers"),
    (lambda: once(0.5), "the objective yielded a float, not a dict of numbers"),
    (lambda: once(None), "the objective yielded None, not a dict of numbers"),
    (lambda: None, "TypeError: 'NoneType' object is not iterable"),
    (lambda: [], "the objective ended without a single record"),
    (stubborn, "RuntimeError: generator ignored GeneratorExit"),
    (lambda: raising(Mute), "Mute"),
    (lambda: raising(local), "Local: only here"),
    (lambda: raising(lambda: ValueError("a\x00\x1b[2J\n\ud800")), "ValueError: a\\x00\\x1b[2J \\ud800"),
    (lambda: raising(lambda: EOFError("Ran out of input")), "EOFError: Ran out of input"),
    (lambda: raising(lambda: BrokenPipeError(32, "Broken pipe")), "BrokenPipeError: [Errno 32] Broken pipe"),
    (lambda: raising(KeyboardInterrupt), "KeyboardInterrupt"),
    (lambda: raising(GeneratorExit), "GeneratorExit"),
    (lambda: raising(lambda: SystemExit(3)), "SystemExit: 3"),
    (lambda: doing(sys.stdout.close, sys.stderr.close, lambda: 1 / 0), "ZeroDivisionError: division by zero"),
    (lambda: doing(lambda: os.close(1), lambda: os.close(2), lambda: 1 / 0), "ZeroDivisionError: division by zero"),
    (lambda: doing(lambda: os._exit(7)), "the training process ended with exit status 7"),
    (lambda: doing(survivor), "the training process ended with exit status 7"),
    (lambda: doing(lambda: os.closerange(3, 256)), "the training process ended with exit status 1"),
    (lambda: doing(closed_and_alive), "the training process closed its connection"),
    (lambda: doing(lambda: garbage(b"\x80\n")), "what its process sent to the search is no message"),
]  # fmt: skip


def objective(experiment: Experiment, *, seed: int, **_: Any) -> Any:
    """The good deeds and the bad ones, one after another."""
    return GOOD[seed]() if seed < len(GOOD) else BAD[seed - len(GOOD)][0]()
