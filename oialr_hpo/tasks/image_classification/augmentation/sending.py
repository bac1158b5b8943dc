"""From the CPU, which draws what happens, to the device of the images."""

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
