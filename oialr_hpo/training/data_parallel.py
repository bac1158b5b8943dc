"""One training over several processes: each takes its share of every batch (torch's DistributedDataParallel).

All processes draw the same batches and the same initial weights, so that a training comes out the same, up to the order
of sums, on any number of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

from oialr_hpo.training.replica import Replica


class Replicas:
    """The processes of one training, as one of them sees them; a training of one process has one."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model whose gradients are averaged over all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def share(self, batch: Any) -> tuple[Any, float]:
        """This process's part of a batch of tensors (all of them with the samples as their first dimension), and the
        weight that makes the mean over all processes the mean over all samples.

        Raises:
            ValueError: the batch has fewer samples than there are processes.
        """
        if self.size == 1:
            return batch, 1.0
        samples = len(next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)))
        mine = len(range(self.rank, samples, self.size))
        if samples < self.size:
            raise ValueError(f"a batch of {samples} cannot be shared by {self.size} ranks; lower --ranks-per-trial")
        part = tree_map(lambda leaf: leaf[self.rank :: self.size] if isinstance(leaf, Tensor) else leaf, batch)
        return part, self.size * mine / samples

    def apart(self, model: nn.Module, apart: bool) -> AbstractContextManager[None]:
        """Where `apart`, gradients are summed up on each process, and not averaged over all yet."""
        return model.no_sync() if apart and isinstance(model, DistributedDataParallel) else nullcontext()

    def mean(self, value: Tensor) -> float:
        """Over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value.item() / self.size

    def from_first(self, record: dict[str, Any]) -> dict[str, Any]:
        """The first process's record, on all of them."""
        if self.size == 1:
            return record
        records = [record]
        dist.broadcast_object_list(records)
        return records[0]


@contextmanager
def joined(replica: Replica | None) -> Iterator[Replicas]:
    """The processes of a training, once all have met; they part again when the training ends, however it does."""
    if replica is None:
        yield Replicas()
        return
    listener = os.dup(replica.listener) if replica.listener is not None else None  # the store closes it
    store = dist.TCPStore(
        replica.host, replica.port, replica.size, replica.rank == 0, master_listen_fd=listener, use_libuv=False
    )
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(
        backend, store=dist.PrefixStore(replica.key, store), rank=replica.rank, world_size=replica.size
    )
    try:
        yield Replicas(replica.rank, replica.size)
    finally:
        dist.destroy_process_group()
