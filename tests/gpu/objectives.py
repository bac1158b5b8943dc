"""Objectives that run where the trials of a search run, on its GPU."""

from collections.abc import Iterator
from typing import Any

import torch

from oialr_hpo.experiment import Experiment
from oialr_hpo.training import devices


def greedy(experiment: Experiment, *, seed: int, worker: int, **_: Any) -> Iterator[dict[str, float]]:
    """Every third trial asks for more memory than its GPU has, the others for a little."""
    device = devices.choose(worker)
    wanted = torch.cuda.get_device_properties(device).total_memory + 2**30 if seed % 3 == 1 else 2**20
    held = torch.ones(wanted, dtype=torch.uint8, device=device)
    yield {"error": held[:8].float().mean().item() - 1, "trainable_percent": 10.0}
