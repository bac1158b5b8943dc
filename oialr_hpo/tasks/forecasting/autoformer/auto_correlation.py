"""Auto-correlation, Autoformer's attention (section 3.2)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

LONG = 256  # steps, beyond which Fourier transforms take less time than the products of all pairs of steps


class AutoCorrelation(nn.Module):
    """Series-wise attention (section 3.2): values are summed at the delays at which queries meet keys.

    Delays are chosen by the correlation meaned over heads and channels: heads need no axis of their own.
    """

    def __init__(self, d_model: int, n_heads: int, factor: float):
        super().__init__()
        inner = d_model // n_heads * n_heads
        self.query_projection = nn.Linear(d_model, inner)
        self.key_projection = nn.Linear(d_model, inner)
        self.value_projection = nn.Linear(d_model, inner)
        self.out_projection = nn.Linear(inner, d_model)
        self.factor = factor

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """x: (batch, length, d_model) asks; source: (batch, any length, d_model) is asked."""
        length = x.shape[1]
        queries = self.query_projection(x)
        keys = _fit(self.key_projection(source), length)
        values = _fit(self.value_projection(source), length)
        k = min(max(int(self.factor * math.log(length)), 1), length)
        correlations, delays = top_delays(queries, keys, k, shared=self.training)
        return self.out_projection(delayed_sum(values, delays, correlations.softmax(dim=1)))


def _fit(x: Tensor, length: int) -> Tensor:
    """Cut a series to the length, or fill it up with zeros."""
    return x[:, :length] if x.shape[1] >= length else F.pad(x, (0, 0, 0, length - x.shape[1]))


def top_delays(queries: Tensor, keys: Tensor, k: int, shared: bool) -> tuple[Tensor, Tensor]:
    """The k delays at which queries and keys correlate most.

    Args:
        queries, keys: (batch, length, channels).
        shared: choose the delays by the mean over the batch (training) instead of per series (inference).

    Returns:
        (batch, k) correlations, meaned over channels, and their (batch, k) delays.
    """
    return _TopDelays.apply(queries, keys, k, shared)


class _TopDelays(torch.autograd.Function):
    """Only the k chosen correlations reach the loss, so the backward pass needs no Fourier transform."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, k: int, shared: bool) -> tuple[Tensor, Tensor]:
        mean_correlation = correlation(queries, keys) / queries.shape[2]
        ranking = mean_correlation.mean(dim=0, keepdim=True) if shared else mean_correlation
        delays = ranking.topk(k, dim=1).indices.expand(len(queries), k)
        ctx.save_for_backward(queries, keys, delays)
        ctx.mark_non_differentiable(delays)
        return mean_correlation.gather(1, delays), delays

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys, delays = ctx.saved_tensors
        weights = grad / queries.shape[2]
        grad_queries = delayed_sum(keys, -delays, weights) if ctx.needs_input_grad[0] else None
        grad_keys = delayed_sum(queries, delays, weights) if ctx.needs_input_grad[1] else None
        return grad_queries, grad_keys, None, None


def delayed_sum(x: Tensor, delays: Tensor, weights: Tensor) -> Tensor:
    """y[t] = sum_i weights[i] x[t + delays[i]], cyclic in time (time delay aggregation, equation 6).

    Args:
        x: (batch, length, channels).
        delays: (batch, k) steps.
        weights: (batch, k).
    """
    return _DelayedSum.apply(x, delays, weights)


class _DelayedSum(torch.autograd.Function):
    """Backward is the same sum with reversed delays, and a correlation: no scatter, no synchronisation."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, delays: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, delays, weights)
        batch, length, channels = x.shape
        steps = torch.arange(length, device=x.device)
        first_row = length * torch.arange(batch, device=x.device)
        rows = (steps[:, None] + delays[:, None, :]).remainder(length) + first_row[:, None, None]
        return F.embedding_bag(
            rows.flatten(0, 1),
            x.reshape(batch * length, channels),
            per_sample_weights=weights[:, None, :].expand_as(rows).flatten(0, 1).to(x.dtype),
            mode="sum",
        ).view(batch, length, channels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        x, delays, weights = ctx.saved_tensors
        x_needs, _, weights_need = ctx.needs_input_grad
        grad_x = delayed_sum(grad, -delays, weights) if x_needs else None
        grad_weights = correlation(x, grad).gather(1, delays).to(weights.dtype) if weights_need else None
        return grad_x, None, grad_weights


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """R[d] = sum over t and channels of x[t + d] y[t], cyclic in time (equation 5, Wiener-Khinchin).

    Args:
        x, y: (batch, length, channels).

    Returns:
        (batch, length), one value per delay, at least in float32.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    length = x.shape[1]
    if length > LONG:
        cross_spectrum = torch.fft.rfft(x, dim=1) * torch.fft.rfft(y, dim=1).conj()
        return torch.fft.irfft(cross_spectrum.sum(dim=2), n=length, dim=1)
    with torch.autocast(x.device.type, enabled=False):
        products = torch.bmm(x, y.transpose(1, 2))
    twice = torch.cat([products, products], dim=1)
    return twice.unfold(1, length, 1)[:, :length].diagonal(dim1=2, dim2=3).sum(dim=2)
