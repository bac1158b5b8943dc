"""The products x V, Sigma, U of a low-rank layer as autograd functions that keep only x V for backward.

B counts the rows a weight (m x n) is applied to: tokens, or output positions. In backward, with z = x V (B x r) and
g = dy U (B x r), dSigma = g^T z and dx = g (Sigma V^T). z is an input of its own, made from x by operations that keep
nothing of x: the first derivative goes straight to x, and second derivatives find their way through z.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F


def under_transform() -> bool:
    """Whether ordinary operations are needed: inside torch.func, forward-mode differentiation or a trace."""
    if torch.compiler.is_compiling():
        return False
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return transformed or forward_ad._current_level >= 0 or torch.jit.is_tracing()


def linear_chain(x: Tensor, u: Tensor, sigma: Tensor, vt: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., n) times (U Sigma V^T)^T, plus the bias: (..., m). All in one dtype; U and V are constants."""
    return _LinearChain.apply(x, F.linear(x, vt), u, sigma, vt, bias)


class _LinearChain(torch.autograd.Function):
    """Sigma is multiplied into whichever has fewer rows, the basis or the tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, u: Tensor, sigma: Tensor, vt: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(z, u, sigma, vt)
        rows = z.flatten(0, -2) if z.dim() > 2 else z
        y = _affine(rows, u @ sigma, bias) if _many_rows(z, u.shape[0]) else _affine(F.linear(rows, sigma), u, bias)
        # no view, which what comes after the layer could not change in place
        return torch.ops.aten._unsafe_view(y, [*z.shape[:-1], len(u)])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, u, sigma, vt = ctx.saved_tensors
        dx = dsigma = dbias = None
        g = dy @ u
        if ctx.needs_input_grad[0]:
            dx = g @ (sigma @ vt) if _many_rows(g, vt.shape[1]) else (g @ sigma) @ vt
        if ctx.needs_input_grad[3]:
            dsigma = g.reshape(-1, g.shape[-1]).t() @ z.reshape(-1, z.shape[-1])
        if ctx.needs_input_grad[5]:
            dbias = _column_sums(dy.reshape(-1, dy.shape[-1]))
        return dx, None, None, dsigma, None, dbias


def _many_rows(x: Tensor, size: int) -> bool:
    """Whether x has at least `size` rows. Compiled and exported code is to serve any number, and takes it for many."""
    return torch.compiler.is_compiling() or x.numel() // x.shape[-1] >= size


def _affine(z: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """z matrix^T + bias. CPUs add a bias in a pass of its own; with a thin z a column of ones is cheaper.

    Compiled code is to serve any rank.
    """
    if bias is None or z.device.type != "cpu" or torch.compiler.is_compiling() or 8 * z.shape[-1] > matrix.shape[0]:
        return F.linear(z, matrix, bias)
    ones = z.new_ones(*z.shape[:-1], 1)
    return F.linear(torch.cat([z, ones], -1), torch.cat([matrix, bias.unsqueeze(1)], 1))


def _column_sums(x: Tensor) -> Tensor:
    """Sums over the rows; on CPUs a product with ones is twice as fast as `sum`."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return x.sum(0)
    return x.new_ones(len(x)) @ x


def conv_chain(
    x: Tensor, u: Tensor, sigma: Tensor, kernel: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any
) -> Tensor:
    """The convolution's chain: `kernel` (r, c_in, ...) holds V^T, U Sigma mixes channels."""
    geometry = stride, padding, dilation
    z = _Projection.apply(x, kernel, *geometry)
    return _ConvChain.apply(x, z, u, sigma, kernel, bias, *geometry)


class _Projection(torch.autograd.Function):
    """z = V^T * x, which has r channels. Unlike a convolution of torch's it keeps nothing of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: Any, padding: Any, dilation: Any) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.set_materialize_grads(False)
        ctx.geometry, ctx.x_shape = (stride, padding, dilation), x.shape
        return convolution(x, kernel, None, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        if dz is None:  # first derivatives do not come this way
            return None, None, None, None, None
        return _input_gradient(dz, kernel, ctx.x_shape, ctx.geometry), None, None, None, None


class _ConvChain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, z: Tensor, u: Tensor, sigma: Tensor, kernel: Tensor, bias: Tensor | None,
        stride: Any, padding: Any, dilation: Any,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(z, u, sigma, kernel)
        ctx.geometry, ctx.x_shape = (stride, padding, dilation), x.shape
        return mix_channels(z, u @ sigma, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, u, sigma, kernel = ctx.saved_tensors
        dx = dsigma = dbias = None
        g = mix_channels(dy, u.t(), None)
        if ctx.needs_input_grad[0]:
            back = (sigma @ kernel.flatten(1)).view(-1, *kernel.shape[1:])
            dx = _input_gradient(g, back, ctx.x_shape, ctx.geometry)
        if ctx.needs_input_grad[3]:
            ones, zeros = [1] * (z.dim() - 2), [0] * (z.dim() - 2)
            pointwise = sigma[(...,) + (None,) * len(ones)]
            dsigma = _convolution_backward(g, z, pointwise, (ones, zeros, ones), [False, True, False])[1].view_as(sigma)
        if ctx.needs_input_grad[5]:
            dbias = dy.sum([0, *range(2, dy.dim())])
        return dx, None, None, dsigma, None, dbias, None, None, None


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any) -> Tensor:
    return torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * (weight.dim() - 2), 1)


def mix_channels(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of kernel size 1 with `matrix` (out x in)."""
    spatial = x.dim() - 2
    ones, zeros = [1] * spatial, [0] * spatial
    return convolution(x, matrix[(...,) + (None,) * spatial], bias, ones, zeros, ones)


def _input_gradient(dy: Tensor, weight: Tensor, x_shape: torch.Size, geometry: Any) -> Tensor:
    """In memory as dy is, which torch tells by an x of which it reads nothing."""
    x = torch.empty(x_shape, dtype=dy.dtype, device=dy.device, memory_format=_memory_format(dy))
    return _convolution_backward(dy, x, weight, geometry, [True, False, False])[0]


def _memory_format(x: Tensor) -> torch.memory_format:
    side_by_side = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if side_by_side and x.is_contiguous(memory_format=side_by_side) and not x.is_contiguous():
        return side_by_side
    return torch.contiguous_format


def _convolution_backward(dy: Tensor, x: Tensor, weight: Tensor, geometry: Any, mask: list[bool]) -> tuple[Tensor, ...]:
    zeros = [0] * (weight.dim() - 2)
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *geometry, False, zeros, 1, mask)
