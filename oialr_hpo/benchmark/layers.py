"""`python -m oialr_hpo.benchmark layers`: one layer, forward and backward, over ranks.

Side by side in one run: the dense layer, W rebuilt at every forward (as the authors' code does), the hybrid (dense
forward and dx, projected dSigma), the chain through the frozen bases, and ours, which chooses between the last two's
cheapest. `allowed` is the speed-up over dense that the FLOP counts allow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter
from torch.utils.flop_counter import FlopCounterMode

from oialr_hpo.benchmark.measure import interleaved, keep_freed_memory, print_table
from oialr_hpo.oialr.layers import LowRank, LowRankConv, LowRankLinear

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]
CASES: dict[str, Case] = {
    "768x768": (lambda: nn.Linear(768, 768), (4352, 768)),
    "2304x768": (lambda: nn.Linear(768, 2304), (4352, 768)),
    "3072x768": (lambda: nn.Linear(768, 3072), (4352, 768)),
    "conv3x3": (lambda: nn.Conv2d(256, 256, 3, padding=1, bias=False), (32, 256, 14, 14)),
}


class Hybrid(torch.autograd.Function):
    """Dense forward and dx with a rebuilt W; dSigma from z = x V and g = dy U."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, sigma: Tensor, vt: Tensor, bias: Tensor | None) -> Tensor:
        weight = u @ (sigma @ vt)
        ctx.save_for_backward(weight, u, F.linear(x, vt))
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight, u, z = ctx.saved_tensors
        return dy @ weight, None, (dy @ u).t() @ z, None, dy.sum(0)


def low_rank(dense: nn.Module, r: int) -> LowRank:
    """`dense` with random factors of rank `r`."""
    m, n = dense.get_parameter("weight").flatten(1).shape
    factors = torch.randn(m, r) / m**0.5, torch.randn(r, r) / r**0.5, torch.randn(r, n) / n**0.5
    u, sigma, vt = (Parameter(factor, requires_grad=i == 1) for i, factor in enumerate(factors))
    kind: Any = LowRankLinear if isinstance(dense, nn.Linear) else LowRankConv
    return kind(dense, u, sigma, vt)


def forced(layer: LowRank, dense_path: bool) -> LowRank:
    layer.prefers_dense = lambda rows: dense_path  # type: ignore[method-assign]
    return layer


def step(forward: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[Tensor]) -> Callable[[], Any]:
    dy = torch.randn_like(forward(x))

    def run() -> None:
        forward(x).backward(dy)
        for tensor in (x, *parameters):
            tensor.grad = None

    return run


def flops(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def measure(name: str, ranks: Sequence[int], rounds: int, device: str) -> None:
    build, shape = CASES[name]
    dense = build().to(device)
    full = min(dense.get_parameter("weight").flatten(1).shape)
    x = torch.randn(shape, device=device).requires_grad_()
    rows = [("rank", "path", "ms", "x dense", "x dense (cpu)", "x rebuild", "allowed", "peak MB")]
    print(f"\n{name}, input {tuple(shape)}, {torch.get_num_threads()} threads, {device}")
    for r in sorted({min(r, full) for r in ranks}):
        layers = {
            "rebuild": forced(low_rank(dense, r), True),
            "chain": forced(low_rank(dense, r), False),
            "ours": low_rank(dense, r),
        }
        alternatives = {"dense": step(dense, x, list(dense.parameters()))}
        for path, layer in layers.items():
            trained = [p for p in layer.to(device).parameters() if p.requires_grad]
            alternatives[path] = step(layer, x, trained)
        if isinstance(dense, nn.Linear):
            layer = layers["chain"]
            alternatives["hybrid"] = step(
                lambda x, layer=layer: Hybrid.apply(x, layer.u, layer.sigma, layer.vt, layer.bias),  # type: ignore[misc]
                x,
                [p for p in layer.parameters() if p.requires_grad],
            )
        costs = interleaved(alternatives, rounds)
        for path, cost in costs.items():
            rows.append(
                (
                    str(r),
                    path,
                    f"{1e3 * cost.seconds:.1f}",
                    f"{costs['dense'].seconds / cost.seconds:.2f}",
                    f"{costs['dense'].cpu_seconds / cost.cpu_seconds:.2f}",
                    f"{costs['rebuild'].seconds / cost.seconds:.2f}",
                    f"{flops(alternatives['dense']) / flops(alternatives[path]):.2f}",
                    f"{cost.peak_bytes / 1e6:.1f}",
                )
            )
    print_table(rows)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m oialr_hpo.benchmark layers", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--ranks", nargs="+", type=int, default=[48, 96, 192, 384, 576, 768])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    for name in options.cases:
        measure(name, options.ranks, options.rounds, options.device)
