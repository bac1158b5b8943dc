"""Time and peak memory of alternatives, side by side in one run."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # malloc.h


@dataclass(frozen=True)
class Cost:
    """Medians over the rounds of one alternative.

    `seconds` is wall time; `cpu_seconds` adds up all threads, and is steadier on a machine that others use too.
    `peak_bytes` is the most memory allocated on top of what was there before.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def keep_freed_memory() -> None:
    """Makes glibc reuse large blocks, as GPUs' caching allocators do, instead of handing them back each time.

    Otherwise every large result of an operation costs page faults, which take longer than thin products do.
    """
    with contextlib.suppress(OSError, AttributeError):
        malloc = ctypes.CDLL(None)
        malloc.mallopt(M_MMAP_MAX, 0)
        malloc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def interleaved(alternatives: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Cost]:
    """Runs every alternative once per round, in turn, so that a slow moment of the machine hits all of them."""
    peaks = {name: peak_memory(run) for name, run in alternatives.items()}  # warms up, too
    wall: dict[str, list[float]] = {name: [] for name in alternatives}
    cpu: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(rounds):
        for name, run in alternatives.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - cpu_started)
    return {
        name: Cost(statistics.median(wall[name]), statistics.median(cpu[name]), peaks[name]) for name in alternatives
    }


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


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.rjust, row, widths)), flush=True)
