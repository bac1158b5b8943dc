"""Random numbers that are drawn in between, without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Afterwards torch's random state, of the CPU and of this device, is what it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
