"""Files of a run directory: what a crash left of them, and one line where they cannot be written."""

import math
import os
from pathlib import Path
from typing import Any

from oialr_hpo.mistake import Mistake


class RunDirectoryError(Mistake):
    """The run directory cannot be used; the message says why and what to do."""


def torn(path: Path) -> bool:
    """Whether the file's last line was cut off by a crash."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return size > 0 and file.read(1) != b"\n"


def unwritable(path: Path, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} cannot be written: {error.strerror}; mend that, or choose another --out; --resume goes on"
    )


def finite(value: Any) -> Any:
    """What JSON can hold of a value: NaN and infinities, which it lacks, as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
