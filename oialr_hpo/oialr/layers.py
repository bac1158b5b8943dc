"""Layers whose weight is W = U Sigma V^T with frozen U and V and a trained square Sigma (OIALR, section 4).

A weight is m x n: m outputs, n inputs; a convolution's kernel is flattened to n = in_channels * kernel size.
U is m x r, Sigma r x r, V^T r x n. B counts the rows a weight is applied to: tokens, or output positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter


def chain_flops(rows: int, m: int, n: int, r: int, backward: bool = True) -> int:
    """Multiply-adds, times two, of one pass through the frozen bases, forward or forward and backward."""
    forward = 2 * rows * r * (m + n) + 2 * r * r * min(rows, m)
    return forward + backward * (2 * rows * r * (m + n) + 2 * r * r * (rows + min(rows, n)))


def dense_flops(rows: int, m: int, n: int, r: int, backward: bool = True) -> int:
    """The same through a rebuilt W, whose gradient is projected on Sigma."""
    product, rebuilding = 2 * rows * m * n, 2 * m * n * r + 2 * r * r * min(m, n)
    return product + rebuilding + backward * (2 * product + rebuilding)


class LowRank(nn.Module):
    """A weight held as U Sigma V^T; `sigma` is trained, `u` and `vt` are frozen float32 masters."""

    u: Parameter
    sigma: Parameter
    vt: Parameter
    bias: Parameter | None
    weight_shape: torch.Size

    def __init__(self, dense: nn.Module, u: Parameter, sigma: Parameter, vt: Parameter) -> None:
        super().__init__()
        self.weight_shape = dense.get_parameter("weight").shape
        self.register_parameter("bias", dense.bias)  # type: ignore[arg-type]
        self.set_factors(u, sigma, vt)
        self.train(dense.training)

    def set_factors(self, u: Parameter, sigma: Parameter, vt: Parameter) -> None:
        """Takes new factors (m x r, r x r, r x n), of any rank; tied layers are given the same."""
        self.u, self.sigma, self.vt = u, sigma, vt
        self._forget()

    def _forget(self) -> None:
        """After every change of U and V."""
        self._cast: tuple[Tensor, Tensor] | None = None
        self.basis = token_hex(8)  # equal in copies, until their U or V change

    @property
    def rank(self) -> int:
        return self.sigma.shape[0]

    @property
    def weight(self) -> Tensor:
        """U Sigma V^T in the dense weight's shape, differentiable in Sigma; computed at every access."""
        u, vt = self.bases()
        sigma = self.sigma.to(u.dtype)
        rebuilt = u @ (sigma @ vt) if u.shape[0] >= vt.shape[1] else (u @ sigma) @ vt
        return rebuilt.view(self.weight_shape)

    def bases(self) -> tuple[Tensor, Tensor]:
        """U and V^T in the dtype of the computation: the masters, or a copy, which training casts once per basis
        update. Elsewhere none is kept: averages of the network are changed in place."""
        device = self.u.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.sigma.dtype
        if dtype == self.u.dtype:
            return self.u, self.vt
        if not (torch.is_grad_enabled() and self.sigma.requires_grad):
            return self.u.to(dtype), self.vt.to(dtype)
        if self._cast is None or self._cast[0].dtype != dtype:
            self._cast = (self.u.detach().to(dtype), self.vt.detach().to(dtype))
        return self._cast

    def prefers_dense(self, rows: int) -> bool:
        """Whether rebuilding W takes fewer FLOPs than the chain. Nothing in between can take fewer: with a dense
        forward or a dense dx, the products with U and V that dSigma needs are still to be computed."""
        m, r = self.u.shape
        sizes = rows, m, self.vt.shape[1], r, torch.is_grad_enabled()
        return dense_flops(*sizes) < chain_flops(*sizes)

    def _apply(self, fn: Any, recurse: bool = True) -> LowRank:
        self._cast = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cast": None}


class LowRankLinear(LowRank):
    """`nn.Linear` with W = U Sigma V^T: (..., n) to (..., m)."""

    def __init__(self, dense: nn.Linear, u: Parameter, sigma: Parameter, vt: Parameter) -> None:
        super().__init__(dense, u, sigma, vt)
        self.in_features, self.out_features = dense.in_features, dense.out_features

    def forward(self, x: Tensor) -> Tensor:
        if self.prefers_dense(x.numel() // self.in_features):
            return F.linear(x, self.weight, self.bias)
        u, vt = self.bases()
        return _LinearChain.apply(x.to(u.dtype), u, self.sigma, vt, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"


class LowRankConv(LowRank):
    """`nn.Conv1d` or `nn.Conv2d` (one group) with W = U Sigma V^T: V^T convolves, U Sigma mixes channels."""

    def __init__(self, dense: nn.Conv1d | nn.Conv2d, u: Parameter, sigma: Parameter, vt: Parameter) -> None:
        super().__init__(dense, u, sigma, vt)
        self.in_channels, self.out_channels = dense.in_channels, dense.out_channels
        self.kernel_size, self.stride, self.dilation = dense.kernel_size, dense.stride, dense.dilation
        self.groups = 1
        self.padding, self.padding_mode = dense.padding, dense.padding_mode
        explicit = isinstance(dense.padding, str) or dense.padding_mode != "zeros"
        self._conv_padding: list[int] = [0] * len(self.kernel_size) if explicit else [*map(int, dense.padding)]
        self._pad_beforehand = dense._reversed_padding_repeated_twice if explicit else []

    def forward(self, x: Tensor) -> Tensor:
        if self._pad_beforehand:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = F.pad(x, self._pad_beforehand, mode=mode)
        dims = len(self.kernel_size)
        if x.dim() == dims + 1:
            return self._convolve(x.unsqueeze(0)).squeeze(0)
        return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        geometry = (self.stride, self._conv_padding, self.dilation)
        if self.prefers_dense(x.shape[0] * math.prod(self._output_size(x.shape[2:]))):
            weight = self.weight
            bias = None if self.bias is None else self.bias.to(weight.dtype)
            return _convolution(x.to(weight.dtype), weight, bias, *geometry)
        u, vt = self.bases()
        kernel = vt.view(self.rank, *self.weight_shape[1:])
        return _ConvChain.apply(x.to(u.dtype), u, self.sigma, kernel, self.bias, *geometry)

    def _output_size(self, size: Sequence[int]) -> list[int]:
        return [
            (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for length, padding, dilation, kernel, stride in zip(
                size, self._conv_padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, rank={self.rank}"
        )


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any) -> Tensor:
    return torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * (weight.dim() - 2), 1)


class _LinearChain(torch.autograd.Function):
    """y = x V (U Sigma)^T + b.

    Keeps only z = x V (B x r) for backward. With g = dy U (B x r), dSigma = g^T z and dx = g (Sigma V^T).
    Sigma is multiplied into whichever has fewer rows, the basis or the tokens.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, sigma: Tensor, vt: Tensor, bias: Tensor | None) -> Tensor:
        s = sigma.to(u.dtype)
        b = None if bias is None else bias.to(u.dtype)
        z = F.linear(x, vt)
        ctx.save_for_backward(z, u, s, vt)
        ctx.sigma_dtype, ctx.bias_dtype = sigma.dtype, None if bias is None else bias.dtype
        rows = z.numel() // z.shape[-1]
        return _affine(z, u @ s, b) if rows >= u.shape[0] else _affine(F.linear(z, s), u, b)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, u, s, vt = ctx.saved_tensors
        dx = dsigma = dbias = None
        dy = dy.to(u.dtype)
        g = dy @ u
        if ctx.needs_input_grad[0]:
            dx = g @ (s @ vt) if g.numel() // g.shape[-1] >= vt.shape[1] else (g @ s) @ vt
        if ctx.needs_input_grad[2]:
            dsigma = (g.reshape(-1, g.shape[-1]).t() @ z.reshape(-1, z.shape[-1])).to(ctx.sigma_dtype)
        if ctx.needs_input_grad[4]:
            dbias = _column_sums(dy.reshape(-1, dy.shape[-1])).to(ctx.bias_dtype)
        return dx, None, dsigma, None, dbias


def _affine(z: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """z matrix^T + bias. CPUs add a bias in a pass of its own; with a thin z a column of ones is cheaper."""
    if bias is None or z.is_cuda or 8 * z.shape[-1] > matrix.shape[0]:
        return F.linear(z, matrix, bias)
    ones = z.new_ones(*z.shape[:-1], 1)
    return F.linear(torch.cat([z, ones], -1), torch.cat([matrix, bias.unsqueeze(1)], 1))


def _column_sums(x: Tensor) -> Tensor:
    """Sums over the rows; on CPUs a product with ones is twice as fast as `sum`."""
    if x.is_cuda or x.dtype not in (torch.float32, torch.float64):
        return x.sum(0)
    return x.new_ones(len(x)) @ x


class _ConvChain(torch.autograd.Function):
    """The convolution's `_LinearChain`: z = V^T * x has r channels and is all that is kept for backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, u: Tensor, sigma: Tensor, kernel: Tensor, bias: Tensor | None,
        stride: Any, padding: Any, dilation: Any,
    ) -> Tensor:  # fmt: skip
        s = sigma.to(u.dtype)
        b = None if bias is None else bias.to(u.dtype)
        z = _convolution(x, kernel, None, stride, padding, dilation)
        ctx.save_for_backward(z, u, s, kernel)
        ctx.geometry, ctx.x_shape = (stride, padding, dilation), x.shape
        ctx.sigma_dtype, ctx.bias_dtype = sigma.dtype, None if bias is None else bias.dtype
        return _mix_channels(z, u @ s, b)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, u, s, kernel = ctx.saved_tensors
        dx = dsigma = dbias = None
        dy = dy.to(u.dtype)
        g = _mix_channels(dy, u.t(), None)
        if ctx.needs_input_grad[0]:
            back = (s @ kernel.flatten(1)).view_as(kernel)
            shape_only = dy.new_empty(1).expand(ctx.x_shape)
            dx = _convolution_backward(g, shape_only, back, ctx.geometry, [True, False, False])[0]
        if ctx.needs_input_grad[2]:
            ones, zeros = [1] * (z.dim() - 2), [0] * (z.dim() - 2)
            pointwise = s[(...,) + (None,) * len(ones)]
            dsigma = _convolution_backward(g, z, pointwise, (ones, zeros, ones), [False, True, False])[1]
            dsigma = dsigma.view_as(s).to(ctx.sigma_dtype)
        if ctx.needs_input_grad[4]:
            dbias = dy.sum([0, *range(2, dy.dim())]).to(ctx.bias_dtype)
        return dx, None, dsigma, None, dbias, None, None, None


def _mix_channels(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution with `matrix` (out x in)."""
    spatial = x.dim() - 2
    ones, zeros = [1] * spatial, [0] * spatial
    return _convolution(x, matrix[(...,) + (None,) * spatial], bias, ones, zeros, ones)


def _convolution_backward(dy: Tensor, x: Tensor, weight: Tensor, geometry: Any, mask: list[bool]) -> tuple[Tensor, ...]:
    zeros = [0] * (weight.dim() - 2)
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *geometry, False, zeros, 1, mask)


class Attention(nn.Module):
    """`nn.MultiheadAttention` with its two projections as layers of their own, so that each may be low-rank.

    Takes over the parameters of `attention` and its call: same arguments, same results.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = (
            attention.embed_dim,
            attention.num_heads,
            attention.head_dim,
        )
        self.dropout, self.batch_first = attention.dropout, attention.batch_first
        self._qkv_same_embed_dim = True
        self.in_proj: nn.Module = linear_from(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj: nn.Module = linear_from(attention.out_proj.weight, attention.out_proj.bias)
        self.train(attention.training)

    # what nn.TransformerEncoderLayer reads
    merge_masks = nn.MultiheadAttention.merge_masks

    @property
    def in_proj_weight(self) -> Tensor:
        return self.in_proj.weight  # type: ignore[return-value]

    @property
    def in_proj_bias(self) -> Tensor | None:
        return self.in_proj.bias  # type: ignore[return-value]

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        if query is key and key is value:
            return self.in_proj(query).chunk(3, dim=-1)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = self._project(query, key, value)
        batched = query.dim() == 3
        if not batched:
            q, k, v = q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        q, k, v = (x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v))

        mask = _additive(attn_mask, q.dtype)
        if mask is not None and mask.dim() == 3:
            mask = mask.view(-1, self.num_heads, *mask.shape[1:])
        padding = _additive(key_padding_mask, q.dtype)
        if padding is not None:
            mask = padding[:, None, None] if mask is None else mask + padding[:, None, None]

        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            attended = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            attended = F.scaled_dot_product_attention(
                q, k, v, mask, dropout_p=dropout, is_causal=is_causal and mask is None
            )
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights


def linear_from(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` around existing parameters."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.register_parameter("weight", weight)  # type: ignore[arg-type]
    linear.register_parameter("bias", bias)  # type: ignore[arg-type]
    return linear


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A boolean mask (True: hidden) as zeros and -inf; others as they are."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


class Thin(nn.Sequential):
    """A merged layer: `down` (r x n, V^T) and `up` (m x r, U Sigma), two plain Linear or Conv layers."""

    down: nn.Linear | nn.Conv1d | nn.Conv2d
    up: nn.Linear | nn.Conv1d | nn.Conv2d

    @property
    def weight(self) -> Tensor:
        """The product of both matrices in the dense weight's shape."""
        down, up = self.down.weight, self.up.weight
        return (up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        return self.up.bias
