"""What an analysis has found, kept so that an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Record:
    """The layers that are done, on disk if wanted: k_S, k_T and the accuracy reached."""

    path: Path | None
    fingerprint: str
    layers: dict[str, tuple[int, int, float]]
    passes: float  # of former sessions and this one
    _former: float

    @classmethod
    def open(cls, path: Path | None, weights: dict[str, Tensor], options: dict[str, Any]) -> Record:
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for name, weight in weights.items():
            digest.update(name.encode())
            digest.update(weight.contiguous().view(torch.uint8).cpu().numpy().tobytes())
        fingerprint = digest.hexdigest()
        if path is None or not path.exists():
            return cls(path, fingerprint, {}, 0.0, 0.0)
        try:
            state = json.loads(path.read_bytes())
            layers = {
                str(name): (int(k_s), int(k_t), float(reached)) for name, (k_s, k_t, reached) in state["layers"].items()
            }
            passes, found = float(state["passes"]), state["fingerprint"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{path} is damaged; remove it, or choose another file") from None
        if found != fingerprint:
            raise ValueError(f"{path} is of another network or other options; remove it, or choose another file")
        return cls(path, fingerprint, layers, passes, passes)

    def add(self, name: str, k_s: int, k_t: int, accuracy: float, *, passes: float) -> None:
        self.layers[name] = k_s, k_t, accuracy
        self.passes = self._former + passes
        if self.path is None or (dist.is_available() and dist.is_initialized() and dist.get_rank() > 0):
            return
        state = {"fingerprint": self.fingerprint, "passes": self.passes, "layers": self.layers}
        partial = self.path.with_name(self.path.name + ".partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(state, indent=1))
        os.replace(partial, self.path)
