"""Where downloads and decoded data are kept, for all processes of a node."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oialr_hpo.tasks.task import DataError


def cache_directory(data_dir: Path | None) -> Path:
    """Where decoded arrays and downloads are kept: OIALR_CACHE, else beside the data, else the user's cache.

    A `data_dir` without any write permission counts as read-only for root as well.
    """
    if os.environ.get("OIALR_CACHE"):
        return Path(os.environ["OIALR_CACHE"]).expanduser()
    if data_dir is not None and data_dir.stat().st_mode & 0o222 and os.access(data_dir, os.W_OK):
        return data_dir / ".oialr_cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "oialr_hpo"


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache's lock; the kernel frees it when the holder dies."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        file = open(cache / "lock", "a")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"cannot write to the cache {cache} ({error}); set OIALR_CACHE") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
