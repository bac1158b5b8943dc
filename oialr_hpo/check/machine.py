"""Where the ranks run: hosts, CPUs and threads, and the versions of what is installed there."""

import os
import platform
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from oialr_hpo.check.findings import Findings
from oialr_hpo.engines.environment import PACKAGES
from oialr_hpo.engines.worker import threads_per_worker

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Place:
    """Where a rank runs, and on what."""

    rank: int
    host: str
    local_rank: int
    cpus: frozenset[int]
    threads: int
    visible: str | None
    versions: dict[str, str | None]

    @classmethod
    def here(cls, rank: int, local_rank: int, sharing: int) -> "Place":
        """Of this rank, so many of which share its CPUs."""
        return cls(
            rank=rank,
            host=socket.gethostname(),
            local_rank=local_rank,
            cpus=frozenset(os.sched_getaffinity(0)),
            threads=threads_per_worker(sharing),
            visible=next((os.environ[name] for name in VISIBLE if name in os.environ), None),
            versions={package: _version(package) for package in PACKAGES},
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(places: Sequence[Place], findings: Findings) -> str:
    """Python's and the packages' versions, which are to be the same on every rank."""
    mine = places[0].versions
    findings.errors += [f"{name} is not installed; pip install ." for name, number in mine.items() if number is None]
    for place in places[1:]:
        for name, number in place.versions.items():
            if number != mine[name]:
                findings.errors.append(
                    f"{name} is {mine[name]} on {places[0].host} and {number} on {place.host}; install one environment"
                )
    known = ", ".join(f"{name} {number}" for name, number in mine.items() if number)
    return f"Python {platform.python_version()}, {known}"


def check_cpus(places: Sequence[Place], findings: Findings) -> None:
    """Whether the ranks of every host have CPUs enough for their threads."""
    for host in dict.fromkeys(place.host for place in places):
        here = [place for place in places if place.host == host]
        cpus = frozenset[int]().union(*(place.cpus for place in here))
        threads = sum(place.threads for place in here)
        if len(here) > len(cpus):
            bound = len(cpus) < (os.cpu_count() or 1)
            remedy = "srun --cpu-bind=none or mpirun --bind-to none frees them" if bound else "start fewer"
            findings.warnings.append(f"{host}: {len(here)} ranks on CPU {ranges(cpus)}; {remedy}")
        elif threads > len(cpus):
            fitting = max(1, len(cpus) // len(here))
            findings.warnings.append(
                f"{host}: {threads} training threads on {len(cpus)} CPUs; OMP_NUM_THREADS={fitting} would fit"
            )


def ranges(numbers: Iterable[int]) -> str:
    """Such as 0-3,8."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
