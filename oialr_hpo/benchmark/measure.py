"""Time and memory of alternatives, side by side in one run."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from oialr_hpo.commands import Parser, positive

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # malloc.h
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # cpu: with one thread, blind to what others run


@dataclass(frozen=True)
class Times:
    """Seconds of one alternative, a value per round."""

    rounds: list[float]

    @property
    def seconds(self) -> float:
        return median(self.rounds)

    def over(self, other: Times) -> float:
        """How many times as long as `other`: the median over the rounds, each compared with itself."""
        return median(mine / others for mine, others in zip(self.rounds, other.rounds, strict=True))


def add_machine_options(parser: Parser) -> None:
    """What the measurement runs on."""
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def milliseconds(taken: float) -> str:
    """Seconds in three digits at least: on a GPU a layer takes less than a millisecond."""
    return f"{1e3 * taken:.3g}" if taken < 0.1 else f"{1e3 * taken:.0f}"


def keep_freed_memory() -> None:
    """Makes glibc reuse large blocks, as GPUs' caching allocators do, instead of handing them back each time.

    Otherwise every large result of an operation costs page faults, which take longer than thin products do.
    """
    with contextlib.suppress(OSError, AttributeError):
        malloc = ctypes.CDLL(None)
        malloc.mallopt(M_MMAP_MAX, 0)
        malloc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def interleaved(alternatives: Mapping[str, Callable[[], Any]], rounds: int, clock: str = "wall") -> dict[str, Times]:
    """Runs every alternative once per round, in turn, so that a slow moment of the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for run in alternatives.values():  # warms up
        run()
    for _ in range(rounds):
        for name, run in alternatives.items():
            times[name].append(seconds(run, clock))
    return {name: Times(each) for name, each in times.items()}


def seconds(run: Callable[[], Any], clock: str = "wall") -> float:
    started = CLOCKS[clock]()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return CLOCKS[clock]() - started


def peak_memory(run: Callable[[], Any]) -> int:
    """The most bytes allocated at a time while `run` runs, beyond those allocated before; second call of two."""
    run()
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    held = peak = 0
    events = recorded.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def held_for_backward(model: nn.Module, forward: Callable[[], Any]) -> int:
    """Bytes that autograd keeps after `forward`, input included, parameters of `model` aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = forward()  # alive until the sum is taken, so that no address is used twice
    total = sum(held.values())
    del kept
    return total


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.rjust, row, widths)), flush=True)


def print_row(row: Sequence[str], header: Sequence[str]) -> None:
    """A row as soon as it is measured, under the `header` that was printed in the same way."""
    print("  ".join(cell.rjust(max(len(name), 6)) for cell, name in zip(row, header, strict=True)), flush=True)
