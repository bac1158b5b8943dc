"""The state of a training between two epochs, on disk: a run that goes on from it gives the same numbers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from oialr_hpo.methods import Method
from oialr_hpo.mistake import reason, warn
from oialr_hpo.training.faults import Fault, written

CHECKPOINT_SECONDS = 300.0
"""So much training a crash may cost."""


@dataclass
class Checkpoint:
    """Where a training is kept; without a path it is not.

    Attributes:
        others: what else has a state, by name.
    """

    path: Path | None
    model: nn.Module
    optimizer: torch.optim.Optimizer
    method: Method
    others: Mapping[str, Any] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, progress: dict[str, Any], needed: bool = True) -> None:
        """Writes the training and its progress (numbers and tensors), whole or not at all.

        Raises:
            Fault: it is `needed` and cannot be written; otherwise a warning is enough.
        """
        if self.path is None:
            return
        self._saved = time.monotonic()
        state = {
            "progress": progress,
            "method": {self.method.name: self.method.state_dict()},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: other.state_dict() for name, other in self.others.items()},
            "random": torch.get_rng_state(),
            "random_cuda": [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else [],
        }
        try:
            with written(self.path, "the checkpoint") as partial, open(partial, "wb") as file:
                torch.save(state, file)
        except Fault as fault:
            if needed:
                raise
            warn(f"{fault}; the training goes on")

    def load(self) -> dict[str, Any] | None:
        """Puts the training where it was saved and gives its progress; None where nothing was saved, or what was is
        damaged.

        Raises:
            Fault: it cannot be read.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise Fault(f"the checkpoint {self.path} cannot be read: {reason(error)}") from error
        except (RuntimeError, EOFError, ValueError, UnpicklingError):
            warn(f"the checkpoint {self.path} is damaged: the training begins anew")
            return None
        of_method = state.get("method", state).get(self.method.name)  # version 0.1 wrote it beside the others
        if of_method is not None:
            self.method.load_state_dict(of_method)  # gives model, optimizer and average their shapes
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, other in self.others.items():
            if name in state:  # else an older version wrote it
                other.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and self._device.type == "cuda":
            states = state["random_cuda"]  # older versions wrote those of all GPUs
            torch.cuda.set_rng_state(states[(self._device.index or 0) % len(states)], self._device)
        return state["progress"]

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
