"""`python -m oialr_hpo.check [NAME]`: whether a search could run here; under mpirun or srun, on all its ranks."""

import fcntl
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import Parser, command, path
from oialr_hpo.engines import launchers, preflight
from oialr_hpo.engines.process import LAUNCHER_VARIABLES
from oialr_hpo.engines.staging import stage
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.printing import table
from oialr_hpo.search import PACKAGES
from oialr_hpo.tasks import DataError

T = TypeVar("T")

PATIENCE = 60.0  # seconds for a message to go round, and for a file to be seen on other nodes
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("check", __doc__.split(": ")[1])
    parser.add_argument("name", metavar="NAME", nargs="?", help="also make this experiment's data ready")
    parser.add_argument("--out", type=path, metavar="DIR", help="run directory (default: runs/NAME)")
    parser.add_changes()
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        ranks: Ranks = Many() if launchers.join() > 1 else Alone()
    except launchers.LaunchError as error:
        if launchers.first():
            print(f"error: {error}\nthe search cannot run here", file=sys.stderr)
        raise SystemExit(1) from None
    try:
        findings = check(ranks, options.name, options.set, options.out, options.data_dir, options.stage_dir)
    except BaseException:
        ranks.abort()
        raise
    if ranks.rank == 0:
        print(f"{findings.text()}\nchecked in {time.monotonic() - started:.1f} s")
    if findings.errors:
        raise SystemExit(1)


class Alone:
    """One process without MPI, with the same face as `Many`."""

    rank, size = 0, 1

    def describe(self) -> str:
        return "no MPI: one process (under mpirun or srun every rank is checked)"

    def local_rank(self) -> tuple[int, int]:
        return 0, 1

    def gather(self, value: T) -> list[T]:
        return [value]

    def on_first_rank(self, action: Callable[[], T]) -> T:
        return action()

    on_every_node = on_first_rank

    def abort(self) -> None:
        pass


class Many:
    """The ranks of MPI."""

    def __init__(self) -> None:
        from oialr_hpo.engines import mpi

        self.rank, self.size = mpi.world()
        self.local_rank, self.gather = mpi.local_rank, mpi.gather
        self.on_first_rank, self.on_every_node = mpi.on_first_rank, mpi.on_every_node
        self._mpi = mpi

    def describe(self) -> str:
        """The library, and how long a message took around all ranks."""
        took = self._mpi.ring(PATIENCE)
        return f"{self._mpi.library()}: a message went round {self.size} ranks in {1000 * took:.3g} ms"

    def abort(self) -> None:
        self._mpi.abort_all("the check failed")


Ranks = Alone | Many


@dataclass
class Findings:
    """What is printed, and what is wrong: a warning costs speed, an error the search."""

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def text(self) -> str:
        verdict = "the search cannot run here" if self.errors else "the search can run here"
        lines = [*self.facts, *(f"warning: {line}" for line in self.warnings)]
        return "\n".join([*lines, *(f"error: {line}" for line in self.errors), verdict])


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


def check(
    ranks: Ranks,
    name: str | None,
    changes: Iterable[str] = (),
    out: Path | None = None,
    data_dir: Path | None = None,
    stage_dir: Path | None = None,
) -> Findings:
    """Look at everything that a search needs; every rank calls this, and all get the same findings."""
    findings = Findings()
    mpi = ranks.describe()
    local_rank, sharing = ranks.local_rank()
    place = Place(
        rank=ranks.rank,
        host=socket.gethostname(),
        local_rank=local_rank,
        cpus=frozenset(os.sched_getaffinity(0)),
        threads=threads_per_worker(sharing),
        visible=next((os.environ[name] for name in VISIBLE if name in os.environ), None),
        versions={package: _version(package) for package in PACKAGES},
    )
    places = ranks.gather(place)
    if ranks.size == 1 and os.environ.get("SLURM_NTASKS", "1") != "1":
        given = os.environ["SLURM_NTASKS"]
        findings.warnings.append(f"Slurm gives {given} tasks, but this is one; use srun, mpirun or --jobs {given}")
    findings.facts += [_versions(places, findings), mpi, ""]
    probes = _probe(ranks, place, places)
    findings.facts += [device_map(places, probes, findings), ""]
    _cpus(places, findings)
    experiment = _experiment(name, changes, findings)
    run = out or (Path("runs") / Path(name).stem if name else Path("runs"))
    findings.facts.append(_run_directory(ranks, run, findings))
    if experiment is None:
        findings.facts.append("data: not looked at; name an experiment")
        return findings
    try:
        staged = _data(ranks, experiment, data_dir, stage_dir)
    except DataError as error:
        findings.facts.append("data: not found")
        findings.errors.append(str(error))
        return findings
    where = f" in {staged}" if staged else ""
    findings.facts.append(f"data: {experiment.data.get('dataset', experiment.task)} is ready{where}")
    try:
        ranks.on_first_rank(lambda: preflight.rehearse(experiment, place.threads, staged).close())
        findings.facts.append("rehearsal: a step and an evaluation went well")
    except Mistake as error:
        findings.facts.append("rehearsal: a step or an evaluation failed")
        findings.errors.append(str(error))
    return findings


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions(places: Sequence[Place], findings: Findings) -> str:
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


def _probe(ranks: Ranks, place: Place, places: Sequence[Place]) -> dict[int, dict[str, Any]]:
    """What torch says of each rank's device, asked in one process per node and set of visible GPUs."""
    alike = [other for other in places if (other.host, other.visible) == (place.host, place.visible)]
    found: dict[int, dict[str, Any]] = {}
    if alike[0] == place:
        told = _ask_torch([other.local_rank for other in alike])
        for other, device in zip(alike, told.pop("workers", alike), strict=True):
            found[other.rank] = told | (device if isinstance(device, dict) else {})
    return {rank: probe for part in ranks.gather(found) for rank, probe in part.items()}


def _ask_torch(indices: Sequence[int]) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
    command = [sys.executable, "-m", "oialr_hpo.training.devices", *map(str, indices)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def device_map(places: Sequence[Place], probes: dict[int, dict[str, Any]], findings: Findings) -> str:
    """A line per rank: host, CPUs, device; and what is odd about the devices.

    Args:
        places: of the ranks, in their order.
        probes: what `oialr_hpo.training.devices.report` says of each rank's device, by rank.
    """
    sharing: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place in places:
        probe = probes[place.rank]
        if "error" in probe:
            findings.errors.append(f"rank {place.rank} on {place.host}: torch: {probe['error']}")
        elif probe["gpus"]:
            sharing[place.host, probe["identity"]].append(place.rank)
    rows = []
    for place in places:
        probe = probes[place.rank]
        device = probe.get("device", "?")
        if others := [str(rank) for rank in sharing[place.host, probe.get("identity", "")] if rank != place.rank]:
            device += f", shared with rank {' '.join(others)}"
        if "memory" in probe:
            device += f" ({probe['name']}, {probe['memory'] / 2**30:.0f} GiB)"
        visible = "all" if place.visible is None else place.visible or "none"
        rows.append([place.rank, place.host, place.local_rank, _ranges(place.cpus), place.threads, visible, device])
    for host in dict.fromkeys(place.host for place in places):
        here = [place for place in places if place.host == host]
        _gpus(host, here, [probes[place.rank] for place in here], findings)
    return table(["rank", "host", "local rank", "CPUs", "threads", "visible GPUs", "device"], rows)


def _gpus(host: str, here: Sequence[Place], probes: Sequence[dict[str, Any]], findings: Findings) -> None:
    """Whether the ranks of one host use its GPUs well."""
    used = {probe["identity"] for probe in probes if probe.get("gpus") and "identity" in probe}
    if used and len(used) < len(here):
        findings.warnings.append(
            f"{host}: {len(here)} ranks share {len(used)} GPU{'s' * (len(used) > 1)}: right where a network does not "
            "fill one, else start fewer ranks"
        )
    idle = max((probe.get("gpus", 0) for probe in probes), default=0) - len(used)
    if used and idle > 0:
        findings.warnings.append(f"{host}: {idle} of {idle + len(used)} GPUs idle; start a rank for each")
    for place, probe in zip(here, probes, strict=True):
        if probe.get("gpus") == 0 and place.visible:
            findings.warnings.append(
                f"{host}: GPUs {place.visible} are given, but torch (built for {probe['built']}) sees none: "
                "trials train on the CPU"
            )
            return


def _cpus(places: Sequence[Place], findings: Findings) -> None:
    """Whether the ranks of every host have CPUs enough for their threads."""
    for host in dict.fromkeys(place.host for place in places):
        here = [place for place in places if place.host == host]
        cpus = frozenset[int]().union(*(place.cpus for place in here))
        threads = sum(place.threads for place in here)
        if len(here) > len(cpus):
            bound = len(cpus) < (os.cpu_count() or 1)
            remedy = "srun --cpu-bind=none or mpirun --bind-to none frees them" if bound else "start fewer"
            findings.warnings.append(f"{host}: {len(here)} ranks on CPU {_ranges(cpus)}; {remedy}")
        elif threads > len(cpus):
            fitting = max(1, len(cpus) // len(here))
            findings.warnings.append(
                f"{host}: {threads} training threads on {len(cpus)} CPUs; OMP_NUM_THREADS={fitting} would fit"
            )


def _ranges(numbers: Iterable[int]) -> str:
    """Such as 0-3,8."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _experiment(name: str | None, changes: Iterable[str], findings: Findings) -> Experiment | None:
    try:
        return experiments.load(name, changes) if name else None
    except ExperimentError as error:
        findings.errors.append(str(error))
        return None


def _run_directory(ranks: Ranks, run: Path, findings: Findings) -> str:
    """Whether every rank can write where the run directory is, or will be."""
    place = next(path for path in (run, *run.absolute().parents) if path.is_dir())
    scratch = held = None
    problems: list[str | None] = []
    if ranks.rank == 0:
        try:
            scratch = Path(tempfile.mkdtemp(prefix=".oialr_hpo-check-", dir=place))
            held = open(scratch / "lock", "w")  # noqa: SIM115 (open while the others try it)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            problems.append(f"{place}: {error.strerror}")
    scratch, problem = ranks.gather((scratch, problems[0] if problems else None))[0]
    locked: list[bool] = []
    if scratch is not None:
        answers = ranks.gather(_write(scratch, ranks.rank))
        problems, locked = [why for why, _ in answers], [lock for _, lock in answers]
        if ranks.rank == 0:
            problem = problem or _seen(scratch, ranks.size)
            shutil.rmtree(scratch)
        problem = ranks.gather(problem)[0]
    if held is not None:
        held.close()
    failed = [each for each in dict.fromkeys([*problems, problem]) if each]
    if failed:
        remedy = "choose another --out, on a file system that all nodes share"
        findings.errors += [f"run directory {each}; {remedy}" for each in failed]
        return f"run directory {run}: cannot be used"
    if not all(locked):
        findings.warnings.append(f"{place}: locks keep nobody out; take care to start one search per run directory")
    state = "holds a search, with which --resume goes on" if (run / "experiment.yaml").exists() else "free"
    return f"run directory {run}: {state}; written by every rank, seen by rank 0"


def _write(scratch: Path, rank: int) -> tuple[str | None, bool]:
    """Why this rank cannot write there, if so, and whether the lock that rank 0 holds keeps it out."""
    try:
        (scratch / f"rank-{rank}").write_text("")
        with open(scratch / "lock", "a") as file:
            return None, _is_locked(file.fileno())
    except OSError as error:
        return f"{scratch.parent} on {socket.gethostname()}: {error.strerror}", True


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _seen(directory: Path, size: int) -> str | None:
    """Which rank's file does not come into sight; network file systems take a while."""
    deadline = time.monotonic() + PATIENCE / 4
    while True:
        names = {path.name for path in directory.iterdir()}
        missing = [rank for rank in range(size) if f"rank-{rank}" not in names]
        if not missing:
            return None
        if time.monotonic() > deadline:
            return f"{directory.parent}: rank 0 does not see what rank {missing[0]} writes there"
        time.sleep(0.2)


def _data(ranks: Ranks, experiment: Experiment, data_dir: Path | None, stage_dir: Path | None) -> Path | None:
    """Make the data ready as a search would, found, downloaded or staged, and decoded; returns where it is.

    Raises:
        DataError: there is none.
    """

    def ready() -> Path | None:
        if stage_dir:
            return stage(experiment, data_dir, stage_dir)
        experiments.prepare_data(experiment, data_dir)
        return data_dir

    ranks.on_first_rank(lambda: experiments.find_data(experiment, data_dir))  # downloads by one rank of all
    return ranks.on_every_node(ready)


if __name__ == "__main__":
    main()
