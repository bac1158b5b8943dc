"""Layers whose weight is W = U Sigma V^T with frozen U and V and a trained square Sigma (OIALR, section 4).

A weight's tensor is flattened behind its first dimension to an m x n matrix: of a Linear or a convolution m outputs
and n inputs (times kernel size); of a transposed convolution and of transformers' Conv1D, whose weights begin with the
inputs, m inputs and n outputs. U is m x r, Sigma r x r, V^T r x n. B counts the rows a weight is applied to: tokens, or
output positions.
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

from oialr_hpo.oialr.chains import conv_chain, convolution, linear_chain, mix_channels, under_transform
from oialr_hpo.oialr.costs import LARGE, chain_flops, dense_flops
from oialr_hpo.oialr.distributed import HOOKS
from oialr_hpo.oialr.pointwise import PointwiseConv1d


class Shell:
    """A dense layer without its weight and bias: its class and its settings, to make one anew around others."""

    def __init__(self, dense: nn.Module) -> None:
        self.kind = type(dense)
        unset = {*vars(nn.Module()), "_compiled_call_impl"}
        self.settings = {name: value for name, value in vars(dense).items() if name not in unset}

    def settings_of(self, layer: nn.Module) -> dict[str, Any]:
        """The settings as `layer`, made from the dense one, has them now."""
        return {name: vars(layer).get(name, value) for name, value in self.settings.items()}

    def layer(self, like: nn.Module, weight: Parameter, bias: Parameter | None) -> nn.Module:
        dense = self.kind.__new__(self.kind)
        nn.Module.__init__(dense)
        vars(dense).update(self.settings_of(like))
        dense.register_parameter("weight", weight)
        dense.register_parameter("bias", bias)
        return dense.train(like.training)


class LowRank(nn.Module):
    """A weight held as U Sigma V^T; `sigma` is trained, `u` and `vt` are frozen float32 masters.

    Takes over the settings and the bias of `dense`, so that it reads as the layer it replaces.
    """

    u: Parameter
    sigma: Parameter
    vt: Parameter
    bias: Parameter | None
    weight_shape: torch.Size
    shell: Shell

    def __init__(self, dense: nn.Module, u: Parameter, sigma: Parameter, vt: Parameter) -> None:
        super().__init__()
        self.shell = Shell(dense)
        vars(self).update(self.shell.settings)
        self.weight_shape = dense.get_parameter("weight").shape
        self.register_parameter("bias", dense._parameters.get("bias"))
        self.set_factors(u, sigma, vt)
        self.train(dense.training)

    def set_factors(self, u: Parameter, sigma: Parameter, vt: Parameter) -> None:
        """Takes new factors (m x r, r x r, r x n), of any rank; tied layers are given the same."""
        self.u, self.sigma, self.vt = u, sigma, vt
        self._cast: _Cast | None = None
        self._new_basis()

    def _new_basis(self) -> None:
        self.basis = token_hex(8)  # equal in copies, until their U or V change

    @property
    def rank(self) -> int:
        return self.sigma.shape[0]

    @property
    def weight(self) -> Tensor:
        """U Sigma V^T in the dense weight's shape and precision, differentiable in Sigma.

        Computed at every access: what is written into it is lost.
        """
        if torch.is_autocast_enabled(self.u.device.type):
            with torch.autocast(self.u.device.type, enabled=False):
                return self.rebuilt()
        return self.rebuilt()

    def rebuilt(self) -> Tensor:
        """The weight in the precision of the computation."""
        u, vt = self.bases()
        sigma = self.sigma.to(u.dtype)
        rebuilt = u @ (sigma @ vt) if u.shape[0] >= vt.shape[1] else (u @ sigma) @ vt
        return rebuilt.view(self.weight_shape)

    def bases(self) -> tuple[Tensor, Tensor]:
        """U and V^T in the dtype of the computation: the masters, or a copy, which training casts once per change of
        theirs. Elsewhere none is kept: averages of the network are changed in place, through `data` too."""
        device, dtype = self.u.device.type, self.sigma.dtype
        if torch.is_autocast_enabled(device) and dtype != torch.float64:  # which autocast leaves as it is
            dtype = torch.get_autocast_dtype(device)
        u, vt = self.u, self.vt
        if dtype == u.dtype:
            return u, vt
        in_training = torch.is_grad_enabled() and self.sigma.requires_grad and not torch.compiler.is_compiling()
        if not in_training or self.needs_ordinary() or u.is_inference() or vt.is_inference():
            return u.to(dtype), vt.to(dtype)
        if self._cast is None or not self._cast.is_of(u, vt, dtype):
            self._cast = _Cast(u, vt, dtype)
        return self._cast.bases

    def needs_ordinary(self) -> bool:
        """Whether the chain is to be made of torch's own operations, of which every derivative is known."""
        return self.u.requires_grad or self.vt.requires_grad or under_transform()

    def prefers_dense(self, rows: int) -> bool:
        """Whether rebuilding W takes fewer FLOPs than the chain. Nothing in between can take fewer: with a dense
        forward or a dense dx, the products with U and V that dSigma needs are still to be computed.

        Compiled and exported code, which is to serve any number of rows, goes by what holds for many.
        """
        m, r = self.u.shape
        n = self.vt.shape[1]
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            rows = 64 * max(m, n)
        sizes = rows, m, n, r, torch.is_grad_enabled()
        return dense_flops(*sizes) < chain_flops(*sizes)

    def on_rows(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m), as a Linear does."""
        if self.prefers_dense(x.numel() // self.vt.shape[1]):
            return F.linear(x, self.rebuilt().flatten(1), self.bias)
        u, vt = self.bases()
        return self._chain(x.to(u.dtype), u, self.sigma.to(u.dtype), vt)

    def _chain(self, x: Tensor, u: Tensor, sigma: Tensor, vt: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(u.dtype)
        if self.needs_ordinary() or x.is_nested:
            return F.linear(F.linear(F.linear(x, vt), sigma), u, bias)
        return linear_chain(x, u, sigma, vt, bias)

    def extra_repr(self) -> str:
        kind: Any = self.shell.kind
        settings = kind.extra_repr(self)
        return f"{settings}, rank={self.rank}" if settings else f"rank={self.rank}"

    def _apply(self, fn: Any, recurse: bool = True) -> LowRank:
        self._cast = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._cast = None
        self._new_basis()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cast": None}


class _Cast:
    """U and V^T in a lower precision, and what they were made of."""

    def __init__(self, u: Tensor, vt: Tensor, dtype: torch.dtype) -> None:
        self.bases = u.detach().to(dtype), vt.detach().to(dtype)
        self._masters = u, vt
        self._versions = u._version, vt._version

    def is_of(self, u: Tensor, vt: Tensor, dtype: torch.dtype) -> bool:
        same = self._masters[0] is u and self._masters[1] is vt and self.bases[0].dtype == dtype
        return same and self._versions == (u._version, vt._version)


class LowRankLinear(LowRank):
    """`nn.Linear` with W = U Sigma V^T: (..., n) to (..., m)."""

    def forward(self, input: Tensor) -> Tensor:
        return self.on_rows(input)


class LowRankConv1D(LowRankLinear):
    """transformers' `Conv1D`, y = x W + b with W = U Sigma V^T: (..., m) to (..., n)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.prefers_dense(x.numel() // self.u.shape[0]):
            return F.linear(x, self.rebuilt().t(), self.bias)
        u, vt = self.bases()
        return self._chain(x.to(u.dtype), vt.t(), self.sigma.to(u.dtype).t(), u.t())


class LowRankConv(LowRank):
    """`nn.Conv1d`, `Conv2d` or `Conv3d` (one group) with W = U Sigma V^T: V^T convolves, U Sigma mixes channels."""

    kernel_size: tuple[int, ...]
    stride: Any
    padding: Any
    dilation: Any
    padding_mode: str
    _reversed_padding_repeated_twice: list[int]

    def forward(self, input: Tensor) -> Tensor:
        x, channels = input, -len(self.kernel_size) - 1
        if self._is_linear(x) and (rows := x.movedim(channels, -1)).is_contiguous():
            return self.on_rows(rows).movedim(-1, channels)
        if self._pads_beforehand:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=mode)
        if x.dim() == len(self.kernel_size) + 1:
            return self._convolve(x.unsqueeze(0)).squeeze(0)
        return self._convolve(x)

    def _is_linear(self, x: Tensor) -> bool:
        """Whether positions are alone, and a product of matrices is faster: of large images convolutions are.

        Compiled and exported code, which is to serve any number of rows, goes by what holds for many.
        """
        if max(*self.kernel_size, *self.stride) > 1 or any(self._reversed_padding_repeated_twice):
            return False
        if len(self.kernel_size) == 1:
            return True
        m, n = self.u.shape[0], self.vt.shape[1]
        return not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and x.numel() // n * (m + n) < LARGE

    @property
    def _pads_beforehand(self) -> bool:
        return isinstance(self.padding, str) or self.padding_mode != "zeros"

    @property
    def _conv_padding(self) -> list[int]:
        return [0] * len(self.kernel_size) if self._pads_beforehand else [*map(int, self.padding)]

    def _convolve(self, x: Tensor) -> Tensor:
        padding = self._conv_padding
        geometry = (self.stride, padding, self.dilation)
        if self.prefers_dense(x.shape[0] * math.prod(self._output_size(x.shape[2:], padding))):
            weight = self.rebuilt()
            bias = None if self.bias is None else self.bias.to(weight.dtype)
            return convolution(x.to(weight.dtype), weight, bias, *geometry)
        u, vt = self.bases()
        x, sigma, kernel = x.to(u.dtype), self.sigma.to(u.dtype), vt.view(len(vt), *self.weight_shape[1:])
        bias = None if self.bias is None else self.bias.to(u.dtype)
        if self.needs_ordinary():
            return mix_channels(mix_channels(convolution(x, kernel, None, *geometry), sigma, None), u, bias)
        return conv_chain(x, u, sigma, kernel, bias, *geometry)

    def _output_size(self, size: Sequence[int], padding: Sequence[int]) -> list[int]:
        return [
            (length + 2 * added - dilation * (kernel - 1) - 1) // stride + 1
            for length, added, dilation, kernel, stride in zip(
                size, padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]


class LowRankConvTranspose(LowRank):
    """`nn.ConvTranspose1d`, `2d` or `3d` (one group): U^T mixes the m input channels, Sigma V^T is the kernel."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    _output_padding: Any = nn.ConvTranspose1d._output_padding

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        dims = len(self.kernel_size)
        padding = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, dims, self.dilation
        )
        if input.dim() == dims + 1:
            return self._convolve(input.unsqueeze(0), padding).squeeze(0)
        return self._convolve(input, padding)

    def _convolve(self, x: Tensor, output_padding: list[int]) -> Tensor:
        if self.prefers_dense(x.numel() // self.u.shape[0]):
            weight = self.rebuilt()
        else:
            u, vt = self.bases()
            x = mix_channels(x.to(u.dtype), u.t(), None)
            weight = (self.sigma.to(u.dtype) @ vt).view(self.rank, *self.weight_shape[1:])
        bias = None if self.bias is None else self.bias.to(weight.dtype)
        geometry = (self.stride, self.padding, self.dilation, True, output_padding, 1)
        return torch.convolution(x.to(weight.dtype), weight, bias, *geometry)


class Matrix(nn.Module):
    """A dense matrix of a recurrent layer, as a layer of its own."""

    def __init__(self, weight: Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.register_parameter("bias", None)


class LowRankMatrix(LowRank):
    """A matrix of a recurrent layer as U Sigma V^T; used through `weight`."""


LOW_RANK: dict[type[nn.Module], type[LowRank]] = {
    nn.Linear: LowRankLinear,
    **dict.fromkeys((PointwiseConv1d, nn.Conv1d, nn.Conv2d, nn.Conv3d), LowRankConv),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), LowRankConvTranspose),
    Matrix: LowRankMatrix,
}


def base_of(dense: nn.Module) -> type[nn.Module] | None:
    """The class that defines the layer, torch's or transformers' Conv1D; None for what has no low-rank layer."""
    for kind in type(dense).__mro__:
        if kind in LOW_RANK or (kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")):
            return kind
    return None


def low_rank_kind(dense: nn.Module) -> type[LowRank]:
    """The low-rank layer that takes the place of `dense`, a layer with a `base_of`."""
    base = base_of(dense)
    return LowRankConv1D if base is None else LOW_RANK.get(base, LowRankConv1D)


BESIDES = ("_buffers", "_non_persistent_buffers_set", "_compiled_call_impl")
# the parts that layers are made of, which those that take their place hold in other forms
REPLACED = {"weight", "bias", "u", "sigma", "vt", "down", "up", "in_proj_weight", "in_proj_bias"}


def become(old: nn.Module, new: nn.Module) -> None:
    """Turns `old` into `new` in place, wherever it is referred to.

    It keeps its hooks, of all kinds, its buffers, and the parameters and modules that a user has added to it.
    """
    kept = {name: vars(old)[name] for name in (*HOOKS, *BESIDES) if name in vars(old)}
    ours = {*REPLACED, *new._parameters, *new._modules}
    for registry in ("_parameters", "_modules"):
        added = {name: value for name, value in vars(old)[registry].items() if name not in ours and value is not None}
        vars(new)[registry].update(added)
    old.__class__ = type(new)
    old.__dict__ = {**vars(new), **kept}
