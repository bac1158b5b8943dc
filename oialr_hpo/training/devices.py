"""Which device a worker trains on, and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def choose(index: int) -> torch.device:
    """The device of worker `index` on this node: the visible GPUs in turn, or the CPU where there are none."""
    if torch.cuda.is_available():
        return torch.device("cuda", index % torch.cuda.device_count())
    return torch.device("cpu")


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bfloat16 autocast where asked for; `auto` asks for it on a GPU only."""
    if precision == "bfloat16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
