"""Where and with what a search runs."""

import os
import platform
import shlex
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
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
    """The commit of the checkout that this package runs from, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
