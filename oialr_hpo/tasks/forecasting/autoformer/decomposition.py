"""Series apart into a seasonal part and a trend (section 3.1)."""

from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 32  # steps at a time: long enough for fast products, short enough to leave out most of the zeros


class SeriesDecomposition(nn.Module):
    """Moving average with the ends repeated, and what remains (section 3.1, equation 1)."""

    def __init__(self, moving_avg: int):
        super().__init__()
        self.moving_avg = moving_avg

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Seasonal part and trend of (batch, length, channels)."""
        seasonal = self.seasonal(x)
        return seasonal, x - seasonal

    def seasonal(self, x: Tensor) -> Tensor:
        """The seasonal part alone."""
        return _Seasonal.apply(x, self.moving_avg)


class _Seasonal(torch.autograd.Function):
    """One product with a banded matrix over time, where padding and pooling would pass over the series many times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moving_avg: int) -> Tensor:
        matrix = _remainder(x.shape[1], moving_avg, x)
        ctx.reach = moving_avg // 2
        ctx.save_for_backward(matrix)
        return _over_time(matrix, x, ctx.reach)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (matrix,) = ctx.saved_tensors
        return _over_time(matrix.t(), grad, ctx.reach), None


def _remainder(length: int, moving_avg: int, like: Tensor) -> Tensor:
    """The matrix (length, length) that takes the moving average off a series, at least in float32."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    window = torch.arange(moving_avg, device=like.device) - moving_avg // 2
    steps = torch.arange(length, device=like.device)
    averaged = (steps[:, None] + window).clamp(0, length - 1)
    ones = torch.ones(averaged.shape, dtype=dtype, device=like.device)
    counts = ones.new_zeros(length, length).scatter_add_(1, averaged, ones)
    return torch.eye(length, dtype=dtype, device=like.device) - counts / moving_avg


def _over_time(matrix: Tensor, x: Tensor, reach: int) -> Tensor:
    """matrix (length, length), zero beyond `reach` steps off its diagonal, times x (batch, length, channels)."""
    batch, length, _ = x.shape
    block = max(BLOCK, 2 * reach)
    parts = []
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, length, block):
            rows = slice(start, start + block)
            near = slice(max(start - reach, 0), start + block + reach)
            parts.append(torch.bmm(matrix[rows, near].expand(batch, -1, -1), x[:, near].to(matrix.dtype)))
    return torch.cat(parts, dim=1).to(x.dtype)


class SeasonalLayerNorm(nn.Module):
    """Layer normalisation, then centred in time, so that no trend is left in the seasonal part."""

    def __init__(self, d_model: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layernorm(x)
        return x - x.mean(dim=1, keepdim=True)
