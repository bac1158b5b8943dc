"""DistributedDataParallel over gloo: identical bits after every update, and only Sigma's gradients travel."""

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from oialr_hpo.oialr import OIALR


def worker(rank: int, size: int, port: int) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, size, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    torch.manual_seed(rank)
    train(dist.group.WORLD)
    pair = dist.new_group([2, 3])
    if rank in (2, 3):
        train(pair)
    dist.destroy_process_group()


def train(group: dist.ProcessGroup) -> None:
    size, first_rank = group.size(), dist.get_global_rank(group, 0)
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 12))
    model = DistributedDataParallel(network, process_group=group)
    travelled = []

    def hook(_state, bucket):
        travelled.append(bucket.buffer().numel())
        work = dist.all_reduce(bucket.buffer().div_(size), group=group, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    model.register_comm_hook(None, hook)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    oialr = OIALR(model, optimizer, delay=2, frequency=2, cutoff=0.8, step_fraction=0.6)
    for _ in range(9):
        travelled.clear()
        optimizer.zero_grad()
        x = torch.randn(4, 1, 6, 6)
        (model(x) - x.flatten(1)[:, :12]).square().mean().backward()
        assert sum(travelled) == sum(p.numel() for p in network.parameters() if p.requires_grad)
        optimizer.step()
        oialr.step()
        bits = torch.cat([p.detach().flatten() for p in network.parameters()])
        moments = torch.cat([s["exp_avg_sq"].flatten() for s in optimizer.state.values()])
        for mine in (bits, moments):
            first = mine.clone()
            dist.broadcast(first, first_rank, group)
            assert torch.equal(first, mine)
    assert list(oialr.ranks) == ["0", "3"] and max(oialr.ranks.values()) < 12


def test_all_ranks_hold_identical_bits():
    """Four processes, then two of them in a group of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (4, port), nprocs=4)
