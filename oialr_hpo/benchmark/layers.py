"""`python -m oialr_hpo.benchmark layers`: one layer, forward and backward, over ranks.

Side by side in one run, in milliseconds:

    dense     the dense layer
    rebuild   W = U Sigma V^T at every forward, as in the authors' code
    hybrid    W rebuilt for forward and dx, dSigma from the products with U and V
    chain     x V, Sigma, U as three layers
    merged    the chain with U Sigma and Sigma V^T merged once per step
    ours      what `oialr_hpo.oialr` does: the merged chain or, by FLOPs, the rebuilt W

`lowest` is the fastest of the four low-rank paths and `above` how much longer ours took, the median over the rounds;
what ours is made of is among the four, so that it shows the choice and the noise. `x dense` and `x rebuild` are
speed-ups of ours, `allowed` the one over dense that the FLOP counts allow. `held` is kept for backward, in MB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.nn.parameter import Parameter

from oialr_hpo.benchmark.measure import (
    CLOCKS,
    add_machine_options,
    held_for_backward,
    interleaved,
    keep_freed_memory,
    milliseconds,
    peak_memory,
    print_row,
)
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.oialr.layers import LowRank, LowRankConv, LowRankLinear
from oialr_hpo.training.flops import count_flops

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]
CASES: dict[str, Case] = {
    "768x768": (lambda: nn.Linear(768, 768), (4352, 768)),
    "2304x768": (lambda: nn.Linear(768, 2304), (4352, 768)),
    "3072x768": (lambda: nn.Linear(768, 3072), (4352, 768)),
    "conv3x3": (lambda: nn.Conv2d(256, 256, 3, padding=1, bias=False), (32, 256, 14, 14)),
    "conv1x1": (lambda: nn.Conv2d(256, 1024, 1, bias=False), (32, 256, 14, 14)),
    "conv1x1/2": (lambda: nn.Conv2d(512, 1024, 1, stride=2, bias=False), (32, 512, 14, 14)),
}
LOW_RANK = ("rebuild", "hybrid", "chain", "merged")


class Hybrid(torch.autograd.Function):
    """Dense forward and dx with a rebuilt W; dSigma from z = x V and g = dy U."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, sigma: Tensor, bias: Tensor | None) -> Tensor:
        weight, z = layer.weight, _project(layer, x)
        ctx.save_for_backward(weight, z)
        ctx.layer, ctx.x_shape = layer, x.shape
        return F.linear(x, weight, bias) if weight.dim() == 2 else F.conv2d(x, weight, bias, **_geometry(layer))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (weight, z), layer = ctx.saved_tensors, ctx.layer
        if weight.dim() == 2:
            return dy @ weight, None, (dy @ layer.u).t() @ z, dy.sum(0)
        dx = conv2d_input(ctx.x_shape, weight, dy, **_geometry(layer))
        g = F.conv2d(dy, layer.u.t()[..., None, None])
        return dx, None, g.transpose(0, 1).flatten(1) @ z.transpose(0, 1).flatten(1).t(), None


def _project(layer: Any, x: Tensor) -> Tensor:
    """x V."""
    if isinstance(layer, LowRankConv):
        return F.conv2d(x, layer.vt.view(-1, *layer.weight_shape[1:]), **_geometry(layer))
    return F.linear(x, layer.vt)


def _geometry(layer: Any) -> dict[str, Any]:
    return {"stride": layer.stride, "padding": layer.padding}


def chain(layer: Any, x: Tensor) -> Tensor:
    z = _project(layer, x)
    if isinstance(layer, LowRankConv):
        return F.conv2d(F.conv2d(z, layer.sigma[..., None, None]), layer.u[..., None, None], layer.bias)
    return F.linear(F.linear(z, layer.sigma), layer.u, layer.bias)


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


def measure(
    name: str,
    ranks: Sequence[int],
    rounds: int,
    clock: str,
    device: str,
    batches: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> None:
    build, shape = CASES[name]
    dense, shape = build().to(device, dtype), (batches * shape[0], *shape[1:])
    full = min(dense.get_parameter("weight").flatten(1).shape)
    x = torch.randn(shape, device=device, dtype=dtype)
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    paths = ("dense", *LOW_RANK, "ours")
    header = ("rank", *paths, "lowest ", "above", "x dense", "x rebuild", "allowed", "held: dense", "ours",
              "peak: dense", "rebuild", "ours")  # fmt: skip
    print(f"\n{name}, input {tuple(shape)}, {torch.get_num_threads()} threads, {clock} time, {device}, {dtype}")
    print_row(header, header)
    for r in sorted({min(r, full) for r in ranks}):
        layer, rebuild, merged, ours = (low_rank(dense, r).to(device, dtype) for _ in range(4))
        forwards: dict[str, Callable[[Tensor], Tensor]] = {
            "dense": dense,
            "rebuild": forced(rebuild, True),
            "hybrid": lambda x, layer=layer: Hybrid.apply(x, layer, layer.sigma, layer.bias),  # type: ignore[misc]
            "chain": lambda x, layer=layer: chain(layer, x),  # type: ignore[misc]
            "merged": forced(merged, False),
            "ours": ours,
        }
        trained = [*dense.parameters(), *(each.sigma for each in (layer, rebuild, merged, ours))]
        runs = {path: step(forward, x, trained) for path, forward in forwards.items()}
        times = interleaved(runs, rounds, clock)
        lowest = min(LOW_RANK, key=lambda path: times[path].over(times["dense"]))
        held = [held_for_backward(each, lambda each=each: each(x)) for each in (dense, ours)]  # type: ignore[misc]
        peaks = [peak_memory(runs[path]) for path in ("dense", "rebuild", "ours")]
        print_row(
            (
                str(r),
                *(milliseconds(times[path].seconds) for path in paths),
                lowest,
                f"{times['ours'].over(times[lowest]) - 1:+.1%}",
                f"{times['dense'].over(times['ours']):.2f}",
                f"{times['rebuild'].over(times['ours']):.2f}",
                f"{count_flops(runs['dense']) / count_flops(runs['ours']):.2f}",
                *(f"{size / 1e6:.1f}" for size in (*held, *peaks)),
            ),
            header,
        )


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark layers", __doc__, "--cases 768x768 --ranks 96 384 --rounds 3")
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=list(CASES),
        default=list(CASES),
        help=f"{', '.join(CASES)}: outputs by inputs of a Linear, kernel (and stride) of a Conv2d",
    )
    parser.add_argument("--ranks", nargs="+", type=positive, default=[48, 96, 192, 384, 480, 576, 768])
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--batches", type=positive, default=1, help="so many times as large an input, for GPUs")
    parser.add_argument("--bf16", action="store_true", help="all in bfloat16")
    parser.add_argument(
        "--channels-last", action="store_true", help="images as networks of convolutions hand them on, on a CPU"
    )
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="wall: seconds; cpu, with one thread: for a busy machine"
    )
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    for name in options.cases:
        dtype = torch.bfloat16 if options.bf16 else torch.float32
        measure(
            name,
            options.ranks,
            options.rounds,
            options.clock,
            options.device,
            options.batches,
            dtype,
            options.channels_last,
        )
