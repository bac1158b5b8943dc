"""A small convolutional network under SFP, and a process of two that train it: little to import where it starts."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from oialr_hpo.methods import Loop
from oialr_hpo.methods.sfp import SFP


def network() -> nn.Module:
    convolutions = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 7, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(7 * 9, 3)).double()


def squares(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


def attached(model: nn.Module, optimizer: torch.optim.Optimizer, *averages: nn.Module, rate: float) -> SFP:
    def batches() -> Any:
        yield torch.ones(2, 2, 3, 3).double()

    return SFP(SFP.Settings(rate=rate), Loop(model, optimizer, squares, 9, 3, [*averages], batches))


def worker(rank: int, port: int) -> None:
    """Two processes with batches of their own hold the same bits to the end."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, 2, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(rank)
    inside = network()
    model = DistributedDataParallel(inside)
    method = attached(model, torch.optim.AdamW(model.parameters(), 0.01), rate=0.4)

    class Step:
        def backward(self) -> None:
            squares(model, torch.randn(2, 2, 3, 3).double()).backward()

        def update(self) -> bool:
            method.loop.optimizer.step()
            method.loop.optimizer.zero_grad()
            return True

    for t in range(1, 10):
        method.make_step(Step())
        mine = torch.cat([parameter.detach().flatten() for parameter in inside.parameters()])
        first = mine.clone()
        dist.broadcast(first, 0)
        assert torch.equal(first, mine)
        assert len(inside[0].weight) == (3 if t == 9 else 5)  # type: ignore[index,arg-type]
    squares(model, torch.randn(2, 2, 3, 3).double()).backward()
    dist.destroy_process_group()
