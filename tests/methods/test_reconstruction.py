"""What CP and ThiNet see of a layer, and that several processes make the same of it."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from oialr_hpo.methods._reconstruction import by_channel, drawn, inputs_at, outputs_at, positions
from oialr_hpo.methods.cp import CP
from oialr_hpo.methods.thinet import ThiNet
from tests.methods.reconstruction import READERS, Idle, attach, network


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, stride=2),
        nn.Conv2d(4, 6, (3, 2), padding=(2, 1), dilation=2, padding_mode="reflect", bias=False),
        nn.Conv1d(4, 6, 3, padding="same"),
        nn.Conv3d(4, 6, 2),
        nn.Linear(7, 6),
        nn.Linear(28, 6),
    ],
)
def test_an_output_is_the_sum_over_what_it_is_computed_from(layer: Any) -> None:
    shape = {"Conv1d": (4, 7), "Conv2d": (4, 7, 7), "Conv3d": (4, 7, 7, 7), "Linear": (layer.weight.shape[1],)}
    channels = 7 if isinstance(layer, nn.Linear) else 4
    x = torch.randn(3, *shape[type(layer).__name__])
    y = layer(x)
    at = drawn(3, positions(layer, y), 10, torch.Generator().manual_seed(0))
    assert len(at) == 3 and at.shape[1] == min(10, y[0].numel() // 6)
    summed = torch.einsum("ipck,ock->ipo", inputs_at(layer, x, channels, at), by_channel(layer, channels))
    assert torch.allclose(summed, outputs_at(layer, y, at), atol=1e-5)


def jointly(rank: int, port: int, directory: str) -> None:
    """The second process's weights are others than the first one's, so that alone it would choose other channels."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for kind, settings in ((CP, {"speed_up": 3.0}), (ThiNet, {"span": 0})):
        model = DistributedDataParallel(network())
        method = attach(kind, model, delay=1, depth=1.0, **settings)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(rank * torch.randn_like(parameter))
        method.make_step(Idle())
        readers = [model.get_submodule(f"module.{reader}").weight for reader in READERS.values()]
        torch.save({"widths": method.layers(), "readers": readers}, f"{directory}/{kind.name}{rank}")
    dist.destroy_process_group()


def test_all_processes_prune_as_the_first_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(jointly, (port, str(tmp_path)), nprocs=2, start_method="fork")
    for name in ("cp", "thinet"):
        first, second = (torch.load(tmp_path / f"{name}{rank}", weights_only=False) for rank in (0, 1))
        assert first["widths"] == second["widths"] and len(first["widths"]) == 3
        for ours, theirs in zip(first["readers"], second["readers"], strict=True):
            assert torch.equal(ours, theirs)
