"""Where and with what a search runs."""

import os
import platform
import shlex
import socket
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from typing import Any

PACKAGES = ("oialr_hpo", "torch", "torchvision", "timm", "propulate", "mpi4py", "optuna", "numpy")
"""Whose versions matter."""


def environment(ranks: int, jobs: int, ranks_per_trial: int = 1) -> dict[str, Any]:
    """Where and with what a search runs."""
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    return {
        "command": shlex.join([*launcher, "python", *_program(), *sys.argv[1:]]),
        "workers": max(ranks // ranks_per_trial, jobs),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _program() -> list[str]:
    """What this Python runs: `-m` and a module, or a script."""
    spec = sys.modules["__main__"].__spec__
    return ["-m", spec.name.removesuffix(".__main__")] if spec else sys.argv[:1]


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it is one; `-dirty` where its modules differ."""
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")  # an installed package may lie in somebody's checkout
        return _git("rev-parse", "--short=12", "HEAD") + ("-dirty" if _git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(files("oialr_hpo")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
