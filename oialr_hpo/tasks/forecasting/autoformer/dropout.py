"""Dropout that draws only what it drops."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout` with other draws on CPUs, where a number per element costs more than the layers around it.

    Dropped elements are a Bernoulli process: the gaps between them are geometric, and at p = 0.05 there are twenty
    times as few gaps as elements.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(input, self.p, self.training)
        if not self.training or self.p == 0:
            return input
        return _Dropped.apply(input, dropped(input.numel(), self.p), 1 / (1 - self.p) if self.p < 1 else 0.0)


def dropped(n: int, p: float) -> Tensor:
    """Which of 0, ..., n - 1 are dropped, each with probability p: ascending, from torch's default generator."""
    likely = n * p + 6 * math.sqrt(n * p * (1 - p)) + 6
    if p == 1:
        return torch.arange(n)
    gaps = torch.rand(int(likely)).neg_().log1p_().div_(math.log1p(-p)).long() + 1
    positions = gaps.cumsum(0) - 1
    reached = int(positions[-1]) + 1
    if reached < n:
        return torch.cat([positions, dropped(n - reached, p) + reached])
    return positions[: int(torch.searchsorted(positions, n))]


class _Dropped(torch.autograd.Function):
    """Keeps only the positions for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, positions: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.scale = scale
        return _scaled_but(x, positions, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors
        return _Dropped.apply(grad, positions, ctx.scale), None, None


def _scaled_but(x: Tensor, positions: Tensor, scale: float) -> Tensor:
    """x times the scale, with zeros at the positions of its flattened elements."""
    y = torch.mul(x.contiguous(), scale)
    y.view(-1).index_fill_(0, positions, 0)
    return y
