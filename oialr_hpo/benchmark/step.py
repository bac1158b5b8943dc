"""`python -m oialr_hpo.benchmark step`: a whole training step, AdamW included, over ranks.

The mini ViT of the paper (32x32 images, patches of 8) or VGG16 with batch norm on 32x32 images. Side by side in one
run: the dense network, every W rebuilt at every forward (as the authors' code does), and ours; with `--compile` also
the dense network and ours as torch.compile makes them. `x dense` is the median over the rounds, `fastest` compares the
fastest rounds, which others on the machine disturb least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from oialr_hpo.benchmark.measure import (
    CLOCKS,
    add_machine_options,
    interleaved,
    keep_freed_memory,
    milliseconds,
    peak_memory,
    print_row,
)
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.layers import LowRank


def mini_vit(depth: int = 6) -> nn.Module:
    return timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=768, depth=depth, num_heads=6, qkv_bias=False, num_classes=10
    )


def vgg16() -> nn.Module:
    network = torchvision.models.vgg16_bn(init_weights=False)
    return nn.Sequential(network.features, nn.Flatten(), nn.Linear(512, 10))


NETWORKS = {"vit": (mini_vit, ["blocks.*"]), "vgg16": (vgg16, ["*"])}


def low_rank(build: Callable[[], nn.Module], include: Sequence[str], rank: int, rebuild: bool) -> nn.Module:
    """The network with random factors of rank `rank`, or full where that is less."""
    model = build()
    oialr = OIALR(model, delay=1, frequency=1, include=include)
    planned = [layer for layer in oialr.report if not layer.reason]
    ranks = {layer.name: min(rank, *layer.shape) for layer in planned}
    oialr.load_state_dict({"steps": 1, "updates": 0, "ranks": ranks})
    for module in model.modules():
        if isinstance(module, LowRank):
            for factor in (module.u, module.sigma, module.vt):
                nn.init.normal_(factor, std=factor.shape[0] ** -0.5)
            if rebuild:
                module.prefers_dense = lambda rows: True  # type: ignore[method-assign]
    return model


def adamw(model: nn.Module, device: str) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4, fused=device == "cuda")


def training_step(
    model: Any, optimizer: torch.optim.Optimizer, batch: int, device: str, bf16: bool
) -> Callable[[], Any]:
    """A step on the same random images and labels each time; `model` is on `device` already."""
    model.train()
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(10, (batch,), device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(
    name: str,
    ranks: Sequence[int],
    batch: int,
    rounds: int,
    clock: str,
    rebuild: bool,
    compiles: bool,
    device: str,
    bf16: bool,
) -> None:
    build, include = NETWORKS[name]
    network = build().to(device)
    optimizer = adamw(network, device)
    dense = training_step(network, optimizer, batch, device, bf16)
    header = ("rank", "method  ", "ms", "x dense", "fastest", "peak MB")
    print(f"\n{name}, batch {batch}, {torch.get_num_threads()} threads, {clock} time, {device}{', bf16' * bf16}")
    print_row(header, header)
    for rank in ranks:
        alternatives = {"dense": dense}
        if compiles:
            torch.compiler.reset()  # else the ranks before count as recompilations of this one
            alternatives["compiled"] = training_step(torch.compile(network), optimizer, batch, device, bf16)
        for method in ["rebuild"] * rebuild + ["ours"]:
            model = low_rank(build, include, rank, method == "rebuild").to(device)
            low_rank_optimizer = adamw(model, device)
            alternatives[method] = training_step(model, low_rank_optimizer, batch, device, bf16)
        if compiles:
            alternatives["ours, compiled"] = training_step(
                torch.compile(model), low_rank_optimizer, batch, device, bf16
            )
        times = interleaved(alternatives, rounds, clock)
        for method, taken in times.items():
            print_row(
                (
                    str(rank),
                    method,
                    milliseconds(taken.seconds),
                    f"{times['dense'].over(taken):.2f}",
                    f"{min(times['dense'].rounds) / min(taken.rounds):.2f}",
                    f"{peak_memory(alternatives[method]) / 1e6:.0f}",
                ),
                header,
            )


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark step", __doc__)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--ranks", nargs="+", type=positive, default=[96, 192, 384, 768])
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--no-rebuild", action="store_true", help="leave out the authors' way")
    parser.add_argument("--compile", action="store_true", help="the dense network and ours by torch.compile as well")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu, with one thread: on a busy machine")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    for name in options.networks:
        measure(
            name,
            options.ranks,
            options.batch,
            options.rounds,
            options.clock,
            not options.no_rebuild,
            options.compile,
            options.device,
            options.bf16,
        )
