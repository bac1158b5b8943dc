"""Data on the local disk of a node: copied once, by one process, for all that run there, now and later."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import Experiment
from oialr_hpo.tasks import DataError


def stage(experiment: Experiment, data_dir: Path | None, stage_dir: Path) -> Path | None:
    """Copy the experiment's data below `stage_dir` and make it ready there.

    Processes that do so at once wait for the first; later ones find the copies. A file appears whole or not at all, and
    one that was cleaned away comes back.

    Returns:
        the data directory to use; `data_dir` itself where the experiment needs no files.

    Raises:
        DataError: there is no data, or no room for it.
    """
    files = experiments.find_data(experiment, data_dir)
    if files:
        data_dir = stage_dir / f"oialr_hpo-{os.getuid()}-{_key(files)}"
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            with open(data_dir / "lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                _copy(files, data_dir)
        except OSError as error:
            raise DataError(f"the data cannot be staged in {data_dir} ({error}); choose another --stage-dir") from None
    experiments.prepare_data(experiment, data_dir)
    return data_dir


def _key(files: Mapping[str, Path]) -> str:
    """Changes with the place, size or modification time of any file."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        status = path.stat()
        digest.update(f"{name}\0{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _copy(files: Mapping[str, Path], data_dir: Path) -> None:
    for name, path in files.items():
        target = data_dir / name
        if target.exists() and target.stat().st_size == path.stat().st_size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = data_dir / "partial"
        shutil.copy2(path, partial)
        os.replace(partial, target)
