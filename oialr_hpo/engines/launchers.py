"""Who started this process, found out before MPI is touched.

A launcher's variables outlive it: what a rank starts inherits them, shells and batch scripts keep them, and an MPI
library that believes them aborts the process. So they count only where their launcher answers: PMI on its open socket
or port, PMIx on its server's address, srun by its task among this process and its ancestors.
"""

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from oialr_hpo.mistake import Mistake

PATIENCE = 2.0  # seconds for a launcher's answer


class LaunchError(Mistake):
    """The ranks do not form one world, or cannot talk to each other."""


@dataclass(frozen=True)
class Launch:
    """What a launcher that answers says of this process.

    Attributes:
        protocol: PMI, PMIx or srun.
        rank: of this process; None: doubtful.
        size: how many processes it started; None: it does not say.
    """

    protocol: str
    rank: int | None
    size: int | None


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return size() != 1


def size() -> int | None:
    """How many processes the launcher started, this one alone without any; None where it does not say."""
    launch = _launch()
    return launch.size if launch else 1


def first() -> bool:
    """Whether this process is to speak for all: rank 0, and every rank where it is doubtful which one that is."""
    launch = _launch()
    return launch is None or not launch.rank


def forget_strays() -> None:
    """Drop the variables of another launcher than the one that answers: MPI would abort on them."""
    launch = _launch()
    strays = {"PMI": ("PMIX_",), "PMIx": ("PMI_FD", "PMI_PORT", "PMI_ID", "PMI_RANK", "PMI_SIZE")}
    for name in [name for name in os.environ if launch and name.startswith(strays.get(launch.protocol, ()))]:
        del os.environ[name]


@cache
def _launch() -> Launch | None:
    return find(os.environ)


def find(environment: Mapping[str, str]) -> Launch | None:
    """The innermost launcher that answers; None: this process was started by itself."""
    return _pmi(environment) or _pmix(environment) or _srun(environment)


def _pmi(environment: Mapping[str, str]) -> Launch | None:
    """MPICH's and Intel's mpirun, `srun --mpi=pmi2`."""
    rank, size = _number(environment, "PMI_RANK"), _number(environment, "PMI_SIZE")
    if _is_connected(environment.get("PMI_FD", "")):
        return Launch("PMI", rank if rank is not None and rank < (size or 0) else None, size or None)
    if _answers(environment.get("PMI_PORT", "")):
        return Launch("PMI", _number(environment, "PMI_ID"), None)
    return None


def _pmix(environment: Mapping[str, str]) -> Launch | None:
    """Open MPI's mpirun, `srun --mpi=pmix`."""
    servers = {value.rpartition("://")[2] for name, value in environment.items() if name.startswith("PMIX_SERVER_URI")}
    if not any(map(_answers, servers)):
        return None
    by_slurm = environment.get("PMIX_NAMESPACE", "").startswith("slurm.")
    size = _number(environment, "SLURM_STEP_NUM_TASKS" if by_slurm else "OMPI_COMM_WORLD_SIZE")
    return Launch("PMIx", _number(environment, "PMIX_RANK"), size or None)


def _srun(environment: Mapping[str, str]) -> Launch | None:
    """srun without a protocol of MPI, or with the wrong one; an interactive shell (`--pty`) is no rank."""
    size, task = _number(environment, "SLURM_STEP_NUM_TASKS"), _number(environment, "SLURM_TASK_PID")
    if not size or not task or "SLURM_PTY_PORT" in environment or task not in _ancestors():
        return None
    return Launch("srun", _number(environment, "SLURM_PROCID"), size)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _is_connected(descriptor: str) -> bool:
    """Whether an open descriptor of this process is a socket whose other end is open too."""
    try:
        if not stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
            return False
        with socket.socket(fileno=os.dup(int(descriptor))) as end:
            return end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except (ValueError, OverflowError, OSError):
        return False


def _answers(address: str) -> bool:
    """Whether someone listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (ValueError, OverflowError, OSError):  # UnicodeError, of impossible host names, is a ValueError
        return False
    return bool(host)


def _ancestors() -> Iterator[int]:
    """This process, its parent, the parent's parent, ... as far as the system tells."""
    process = os.getpid()
    while process > 0:
        yield process
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            process = os.getppid() if process == os.getpid() else 0
