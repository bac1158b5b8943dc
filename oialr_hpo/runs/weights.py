"""Files of weights as they lie in run directories and beside exported settings; torch is not needed for them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from oialr_hpo.files import whole


def beside(file: Path) -> Path:
    """Where the weights of an experiment file lie."""
    return file.with_suffix(".safetensors")


def described(path: Path) -> dict[str, Any]:
    """What a file of weights says of them, see `oialr_hpo.training.weights.describe`; nothing where others wrote it."""
    try:
        with safe_open(path, "np") as file:
            metadata: dict[str, str] = file.metadata() or {}
        return {name: json.loads(text) for name, text in metadata.items() if name != "format"}
    except (SafetensorError, OSError, ValueError):
        return {}


def copy(source: Path, target: Path, about: Mapping[str, Any]) -> None:
    """Copy weights, whole or not at all, that say this of themselves too.

    A safetensors file is the length of its header in eight bytes, the header as JSON, and the numbers.

    Raises:
        OSError: the source cannot be read, or the target not be written.
        ValueError: the source is damaged.
    """
    with open(source, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        said = {name: json.dumps(value, default=str) for name, value in about.items()}
        header["__metadata__"] = header.get("__metadata__", {}) | said
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with whole(target) as partial, open(partial, "wb") as copied:
            copied.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(file, copied)
