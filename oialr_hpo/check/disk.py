"""Whether every rank can write where the run directory is, and rank 0 sees it."""

import fcntl
import shutil
import socket
import tempfile
import time
from pathlib import Path

from oialr_hpo.check.findings import Findings
from oialr_hpo.check.ranks import Ranks

PATIENCE = 15.0
"""Seconds for a file to be seen on other nodes."""


def run_directory(ranks: Ranks, run: Path, findings: Findings) -> str:
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
    deadline = time.monotonic() + PATIENCE
    while True:
        names = {path.name for path in directory.iterdir()}
        missing = [rank for rank in range(size) if f"rank-{rank}" not in names]
        if not missing:
            return None
        if time.monotonic() > deadline:
            return f"{directory.parent}: rank 0 does not see what rank {missing[0]} writes there"
        time.sleep(0.2)
