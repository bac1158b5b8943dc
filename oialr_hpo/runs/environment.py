"""The file `environment.yaml` of a run directory, as it is read back: where the search ran, and with what."""

from pathlib import Path
from typing import Any

from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.files import RunDirectoryError

UNKNOWN: dict[str, Any] = {"command": "unknown", "workers": 1, "python": "unknown", "packages": {}}
"""What an environment says at least."""


def read(file: Path) -> dict[str, Any]:
    """What it says; what is not noted there is unknown.

    Raises:
        RunDirectoryError: the file is damaged.
    """
    from oialr_hpo.experiment import strict_yaml  # here: few of those who hold a run directory read it

    if not file.exists():
        return dict(UNKNOWN)
    try:
        noted = strict_yaml.read(file)
    except Mistake as error:
        raise RunDirectoryError(f"{error}; restore the file, or remove it") from None
    found = UNKNOWN | noted if isinstance(noted, dict) else {}
    fits = {key: isinstance(found.get(key), type(value)) for key, value in UNKNOWN.items()}
    fits["workers"] = fits["workers"] and found["workers"] > 0
    fits["deadline"] = isinstance(found.get("deadline"), (int, float, type(None)))
    if not all(fits.values()):
        key = next(key for key, fit in fits.items() if not fit)
        raise RunDirectoryError(f"{file}: damaged, as its {key} tells; restore the file, or remove it")
    return found
