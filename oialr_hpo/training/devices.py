"""Which device a worker trains on, and in which precision.

`python -m oialr_hpo.training.devices INDEX...` tells what the workers of these indices get, see `report`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def choose(index: int) -> torch.device:
    """The device of worker `index` on this node: the visible GPUs in turn, or the CPU where there are none."""
    if torch.cuda.is_available():
        return torch.device("cuda", index % torch.cuda.device_count())
    return torch.device("cpu")


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def of_this_process() -> str:
    """What `choose` chooses from, in words: `the CPU`, or such as `4 x NVIDIA H100`."""
    if not torch.cuda.is_available():
        return "the CPU"
    names = Counter(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return ", ".join(f"{count} x {kind}" for kind, count in names.items())


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Autocast to bfloat16 or float16 where asked for; `auto` asks for bfloat16 on a GPU only.

    On a CPU attention is then made of products: of few tokens, torch's fused kernel takes up to ten times as long.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        if device.type == "cuda":
            yield
            return
        with sdpa_kernel(SDPBackend.MATH):
            yield


def report(indices: Sequence[int]) -> dict[str, Any]:
    """What torch was built for, how many GPUs it sees, and each worker's device, tried out: its name, an identity that
    tells two workers that they share it, and the error of a GPU that does not work."""
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    workers = []
    for index in indices:
        device = choose(index)
        found: dict[str, Any] = {"index": index, "device": str(device), "name": name(device), "identity": str(device)}
        try:
            torch.ones(8, device=device).sum().item()
            if device.type == "cuda":
                properties = torch.cuda.get_device_properties(device)
                found["identity"] = str(getattr(properties, "uuid", device))
                found["memory"] = properties.total_memory
        except RuntimeError as error:
            found["error"] = str(error).splitlines()[0]
        workers.append(found)
    has_gpus = torch.version.cuda or torch.version.hip
    return {"built": built if has_gpus else "CPUs only", "gpus": torch.cuda.device_count(), "workers": workers}


if __name__ == "__main__":
    print(json.dumps(report([int(index) for index in sys.argv[1:]])))
