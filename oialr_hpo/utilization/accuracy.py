"""How accurate a network is."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from oialr_hpo.utilization.batches import labelled, logits, rereadable

EMPTY = "Accuracy: the batches hold no image; is the data set empty, or what gives them used up?"


class Accuracy:
    """Top-1 accuracy in percent: `Accuracy(batches)(network)`.

    `analyse` takes any function of a network for this, but only with this one it can do with parts of the images.

    Arguments:
        batches: of inputs and labels (B,), batches first; read anew for every full pass, always in the same order and
            without random augmentation. An iterator is kept as a list. With torch.distributed each process has its own
            share, and the result is that of all.
        memory: bytes that may hold images and what earlier layers made of them, for `analyse`.

    Raises:
        ValueError: where they are read: the batches, or the network's outputs, are others than these.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]], memory: float = 4 * 2**30) -> None:
        self.batches, self.memory = rereadable(batches), memory

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        device = next(network.parameters()).device
        counts = torch.zeros(2, dtype=torch.float64)
        for images, labels in labelled(self.batches):
            hits = logits(network(images.to(device)), labels).argmax(1).cpu() == labels.cpu()
            counts += torch.tensor([hits.sum(), len(hits)])
        hits, images_seen = over_processes(counts)
        if images_seen == 0:
            raise ValueError(EMPTY)
        return (100 * hits / images_seen).item()


def over_processes(numbers: Tensor) -> Tensor:
    """Summed over the processes of torch.distributed, where there are some."""
    if dist.is_available() and dist.is_initialized():
        numbers = numbers.cuda() if dist.get_backend() == "nccl" else numbers
        dist.all_reduce(numbers)
    return numbers.cpu()
