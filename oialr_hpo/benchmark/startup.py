"""`python -m oialr_hpo.benchmark startup --ranks 64`: how long the ranks of a search take to be ready, what they hold.

Simulated trials under `mpirun` on this machine: plain Propulate, whose ranks are ready when it is imported, against the
whole search, whose ranks are ready when their training processes wait for the first trial; also the search of an
experiment of one's own, with its task. Run it where nothing else runs.
"""

import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.experiment import Experiment
from oialr_hpo.mistake import Mistake

HELD = 20.0  # seconds that ranks stay, to be measured

PLAIN = """
import sys, time, pathlib
import propulate
from mpi4py import MPI
pathlib.Path(sys.argv[1], f"{MPI.COMM_WORLD.rank}.ready").write_text(str(time.time()))
time.sleep(float(sys.argv[2]))
"""
SEARCH = """
import sys, pathlib
from oialr_hpo import search
from oialr_hpo.benchmark.startup import sleeps
search.run(sys.argv[4], changes=["dense_baseline=false", "start_from=[]", "score.trainable_weight=0.0",
           f"trials={sys.argv[3]}"], out=pathlib.Path(sys.argv[1]), objective=sleeps)
"""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("benchmark startup", __doc__.split(": ")[1], "--ranks 16")
    parser.add_argument("--ranks", type=positive, nargs="+", default=[64], metavar="N")
    parser.add_argument("--mpirun", default="mpirun", metavar="PROGRAM")
    parser.add_argument("--experiment", default="vit_digits", metavar="NAME", help="whose search it is, a name or path")
    options = parser.parse_args(arguments)
    compileall.compile_dir(Path(__file__).parents[1], quiet=2)  # as an installed package is
    print("| ranks | | all ranks ready after | CPU time per rank | memory per rank | of it training process | torch |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for ranks in options.ranks:
        for name, program, ready in (("plain Propulate", PLAIN, written), ("this package", SEARCH, opened)):
            measured = measure(options.mpirun, ranks, program, ready, options.experiment)
            print(f"| {ranks} | {name} | {measured} |", flush=True)


def sleeps(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """A trial without a network."""
    time.sleep(HELD)
    yield dict.fromkeys(experiment.score.metrics, 0.5) | {"trainable_percent": 10.0}


def measure(mpirun: str, ranks: int, program: str, ready: Callable[[Path], list[float]], experiment: str) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            mpirun,
            "-n",
            str(ranks),
            sys.executable,
            "-c",
            program,
            directory,
            str(HELD),
            str(ranks),
            experiment,
        ]
        started = time.time()
        running = subprocess.Popen([*command, str(ranks), experiment], stdout=subprocess.DEVNULL)
        try:
            while len(ready(Path(directory))) < ranks:
                if running.poll() is not None:
                    raise Mistake(f"{mpirun} ended with status {running.returncode}")
                time.sleep(0.1)
            seconds = max(ready(Path(directory))) - started
            parents, children = processes(directory)
            cpu = sum(map(cpu_seconds, [*parents, *children]))
            time.sleep(HELD / 4)
            memory = {pid: proportional_bytes(pid) / 2**20 for pid in [*parents, *children]}
            torch = sum("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in memory)
        finally:
            running.terminate()
            running.wait()
    training = sum(memory[pid] for pid in children)
    held = f"{sum(memory.values()) / ranks:.0f} MiB | {training / ranks:.0f} MiB"
    return f"{seconds:.1f} s | {cpu / ranks:.2f} s | {held} | in {torch} processes"


def written(directory: Path) -> list[float]:
    """When plain Propulate's ranks were ready."""
    return [float(file.read_text() or "nan") for file in directory.glob("*.ready")]


def opened(directory: Path) -> list[float]:
    """When the search's ranks were ready, as their trial files say."""
    lines = [line for file in directory.glob("trials/*.jsonl") for line in file.read_text().splitlines()]
    return [event["time"] for event in map(json.loads, lines) if event["event"] == "open"]


def processes(directory: str) -> tuple[list[int], list[int]]:
    """The ranks that work in a directory, and their training processes."""
    words, parent = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
            parent[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended
            continue
    ranks = [pid for pid, command in words.items() if directory in command and "python" in Path(command[0]).name]
    return ranks, [pid for pid in words if parent.get(pid) in ranks]


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    used = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def proportional_bytes(pid: int) -> int:
    """Memory of a process, shared pages divided among those that share them (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
