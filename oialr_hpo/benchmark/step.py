"""`python -m oialr_hpo.benchmark step`: a whole training step, AdamW included, over ranks.

The mini ViT of the paper, VGG16 with batch norm, ResNet-50 and MobileNetV2 on 32x32 images, or Autoformer as published
for 96 steps of ETTm2. Side by side in one run: the dense network, every W rebuilt at every forward (as the
authors' code does), and ours; with `--compile` also the dense network and ours as torch.compile makes them; on a CPU
also ResNet-50 and MobileNetV2 without the order of channels that tasks give them, and with `--bf16` in float32; with
`--against FILE` Autoformer as another commit has it, dense:

    git show 7092c17:oialr_hpo/tasks/autoformer.py > FILE

`x dense` is the median over the rounds, `fastest x dense` compares the fastest rounds, which others on the machine
disturb least; `against` is FILE's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
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
from oialr_hpo.mistake import Mistake
from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.tasks.forecasting.autoformer import Autoformer
from oialr_hpo.tasks.image_classification.networks import build_network
from oialr_hpo.training import devices
from oialr_hpo.training.compilation import compiling

Loss = Callable[[Any], Tensor]


def mini_vit(depth: int = 6, width: int = 768) -> nn.Module:
    return timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=width, depth=depth, num_heads=6, qkv_bias=False, num_classes=10
    )


def vgg16() -> nn.Module:
    network = torchvision.models.vgg16_bn(init_weights=False)
    return nn.Sequential(network.features, nn.Flatten(), nn.Linear(512, 10))


def autoformer(kind: Any = Autoformer) -> nn.Module:
    channels = {"enc_in": 7, "dec_in": 7, "c_out": 7}
    return kind(seq_len=96, label_len=48, pred_len=96, freq="t", **channels)


def classifying(batch: int, device: str) -> Loss:
    """The loss of a network on random images and labels, the same each time."""
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(10, (batch,), device=device)
    return lambda model: F.cross_entropy(model(x), y)


def forecasting(batch: int, device: str) -> Loss:
    """The same on random series and calendar features."""
    shapes = (96, 7), (96, 5), (144, 7), (144, 5), (96, 7)
    *inputs, y = (torch.randn(batch, *shape, device=device) for shape in shapes)
    return lambda model: F.mse_loss(model(*inputs), y)


@dataclass(frozen=True)
class Network:
    """What is measured, of which layers, on what; batch and ranks as published, or as in the paper's tables."""

    build: Callable[[], nn.Module]
    include: Sequence[str]
    loss: Callable[[int, str], Loss]
    batch: int
    ranks: Sequence[int]


NETWORKS = {
    "vit": Network(mini_vit, ["blocks.*"], classifying, 128, [96, 192, 384, 768]),
    "vgg16": Network(vgg16, ["*"], classifying, 128, [96, 192, 384, 768]),
    "autoformer": Network(autoformer, ["*"], forecasting, 32, [64, 192]),
    "resnet50": Network(partial(build_network, "resnet50_cifar", {}), ["*"], classifying, 8, [16, 64]),
    "mobilenet": Network(partial(build_network, "mobilenetv2_100", {"num_classes": 10}), ["*"], classifying, 32, [16]),
}


def of_another_commit(file: Path) -> Callable[[], nn.Module]:
    """The Autoformer that a Python file defines."""
    spec = spec_from_file_location("another_autoformer", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise Mistake(f"--against {file}: no such Python file; write one by git show COMMIT:PATH > FILE.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return partial(autoformer, module.Autoformer)


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
    model: Any, optimizer: torch.optim.Optimizer, loss_of: Loss, device: str, bf16: bool, compiles: bool = False
) -> Callable[[], Any]:
    """A step on the data of `loss_of`; `model` is on `device` already."""
    model.train()
    compiled = compiling(model, torch.device(device), compiles)

    def step() -> None:
        with devices.autocast(torch.device(device), "bfloat16" if bf16 else "float32"), compiled():
            loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(
    name: str,
    ranks: Sequence[int] | None,
    batch: int | None,
    rounds: int,
    clock: str,
    rebuild: bool,
    compiles: bool,
    device: str,
    bf16: bool,
    another: Callable[[], nn.Module] | None,
) -> None:
    of = NETWORKS[name]
    batch = batch or of.batch
    loss_of = of.loss(batch, device)
    network = of.build().to(device)
    optimizer = adamw(network, device)
    dense = training_step(network, optimizer, loss_of, device, bf16)
    against = {}
    if another is not None and name == "autoformer":
        other = another().to(device)
        against["against"] = training_step(other, adamw(other, device), loss_of, device, bf16)
    references = ["dense", *against]
    header = (
        "rank",
        "method  ",
        "ms",
        *(f"{ratio}{each}" for each in references for ratio in ("x ", "fastest x ")),
        "peak MB",
    )
    print(f"\n{name}, batch {batch}, {torch.get_num_threads()} threads, {clock} time, {device}{', bf16' * bf16}")
    print_row(header, header)
    for rank in ranks or of.ranks:
        alternatives = against | {"dense": dense}
        if compiles:
            alternatives["compiled"] = training_step(network, optimizer, loss_of, device, bf16, True)
        for method in ["rebuild"] * rebuild + ["ours"]:
            model = low_rank(of.build, of.include, rank, method == "rebuild").to(device)
            low_rank_optimizer = adamw(model, device)
            alternatives[method] = training_step(model, low_rank_optimizer, loss_of, device, bf16)
        if compiles:
            alternatives["ours, compiled"] = training_step(model, low_rank_optimizer, loss_of, device, bf16, True)
        if network._forward_pre_hooks and device == "cpu":
            for method, copied in (("dense", network), ("ours", model)):
                unordered = deepcopy(copied)
                unordered._forward_pre_hooks.clear()
                its_own = adamw(unordered, device)
                alternatives[f"{method}, channels first"] = training_step(unordered, its_own, loss_of, device, bf16)
        if bf16 and device == "cpu":
            alternatives["dense, float32"] = training_step(network, optimizer, loss_of, device, False)
            alternatives["ours, float32"] = training_step(model, low_rank_optimizer, loss_of, device, False)
        times = interleaved(alternatives, rounds, clock)
        for method, taken in times.items():
            print_row(
                (
                    str(rank),
                    method,
                    milliseconds(taken.seconds),
                    *(
                        f"{ratio:.2f}"
                        for each in references
                        for ratio in (times[each].over(taken), min(times[each].rounds) / min(taken.rounds))
                    ),
                    f"{peak_memory(alternatives[method]) / 1e6:.0f}",
                ),
                header,
            )


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark step", __doc__, "--networks vit --ranks 96")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=list(NETWORKS),
        default=["vit", "vgg16", "autoformer"],
        help="vit: the paper's mini ViT, vgg16, autoformer, resnet50 and mobilenet as tasks build them",
    )
    parser.add_argument("--ranks", nargs="+", type=positive, help="default: the network's own")
    parser.add_argument("--batch", type=positive, help="default: the network's own")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--no-rebuild", action="store_true", help="leave out the authors' way")
    parser.add_argument("--compile", action="store_true", help="the dense network and ours by torch.compile as well")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16; on a CPU beside float32")
    parser.add_argument("--against", metavar="FILE", type=Path, help="a file that defines another commit's Autoformer")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="wall: seconds; cpu, with one thread: for a busy machine"
    )
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    another = of_another_commit(options.against) if options.against else None
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
            another,
        )
