"""The end of low-rank training: two thin matrices per layer, or a dense one where that is cheaper."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from oialr_hpo.oialr.decomposition import exactly
from oialr_hpo.oialr.layers import (
    LowRank,
    LowRankConv1D,
    LowRankConvTranspose,
    LowRankLinear,
    LowRankMatrix,
    Shell,
    become,
    low_rank_kind,
)
from oialr_hpo.oialr.recurrent import Recurrent

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Thin(nn.Sequential):
    """A merged layer: `down` to r channels and `up` from them, two plain torch layers.

    Of a weight W = U Sigma V^T they hold V^T (r x n) and U Sigma (m x r); where a weight begins with its inputs, as
    in transposed convolutions, U^T (r x m) and Sigma V^T.
    """

    down: nn.Module
    up: nn.Module

    def __init__(self, down: nn.Module, up: nn.Module, shell: Shell, weight_shape: torch.Size) -> None:
        super().__init__(OrderedDict(down=down, up=up))
        self.shell, self.weight_shape = shell, weight_shape

    def forward(self, input: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return self.up(self.down(input), *arguments, **named)

    @property
    def weight(self) -> Tensor:
        """The product of both matrices in the dense weight's shape."""
        down, up = (layer.get_parameter("weight").flatten(1) for layer in (self.down, self.up))
        if isinstance(self.up, TRANSPOSED):
            product = down.t() @ up
        elif issubclass(self.shell.kind, (nn.Linear, *CONVOLUTIONS)):
            product = up @ down
        else:
            product = down.t() @ up.t()
        return product.reshape(self.weight_shape)

    @property
    def bias(self) -> Parameter | None:
        return self.up._parameters.get("bias")


@exactly()
def merge(model: nn.Module) -> nn.Module:
    """Replaces, in place, every low-rank layer by `Thin` (V^T, then U Sigma) or, where r (m + n) >= m n, by a
    dense layer. Both consist of plain torch layers, and all their weights can be trained. Returns `model`."""
    twins: dict[tuple[Parameter, type | None], Any] = {}  # tied layers stay tied
    for layer in [module for module in model.modules() if isinstance(module, LowRank)]:
        (m, r), n = layer.u.shape, layer.vt.shape[1]
        dense = isinstance(layer, LowRankMatrix) or r * (m + n) >= m * n
        place = layer.sigma, None if dense else type(layer)
        twin = twins.get(place)
        merged = _merged_dense(layer, twin) if dense else _merged_thin(layer, twin)
        twins.setdefault(place, merged)
        become(layer, merged)
    for module in list(model.modules()):
        if isinstance(module, Recurrent):
            become(module, module.merged())
    return model


def _merged_dense(layer: LowRank, twin: Any) -> nn.Module:
    weight = layer.weight.to(layer.sigma.dtype)
    return dense_layer(layer, Parameter(weight, layer.sigma.requires_grad) if twin is None else twin.weight)


def _merged_thin(layer: LowRank, twin: Any) -> Thin:
    up = layer.u @ layer.sigma.to(layer.u.dtype)
    thin = thin_layer(layer, layer.vt.to(layer.sigma.dtype), up.to(layer.sigma.dtype), twin)
    for part in (thin.down, thin.up):
        part.get_parameter("weight").requires_grad_(layer.sigma.requires_grad)
    return thin


def dense_layer(like: LowRank | Thin, weight: Parameter) -> nn.Module:
    """The layer that `like` was made of, with its present bias, around another weight."""
    return like.shell.layer(like, weight, like.bias)


def thin_layer(like: Any, vt: Tensor, up: Tensor, twin: Thin | None = None) -> Thin:
    """V^T (r x n), then U Sigma (m x r), in the geometry and with the bias of `like`, dense or low-rank.

    A layer that is tied to `twin` takes over its weights.
    """
    shell = like.shell if isinstance(like, LowRank) else Shell(like)
    kind = type(like) if isinstance(like, LowRank) else low_rank_kind(like)
    shape = like.weight_shape if isinstance(like, LowRank) else like.weight.shape
    r = len(vt)
    first: nn.Module
    second: nn.Module
    if issubclass(kind, LowRankConv1D):
        first, second = nn.Linear(shape[0], r, device="meta"), nn.Linear(r, shape[1], device="meta")
        down, up = up.t(), vt.t()
    elif issubclass(kind, LowRankLinear):
        first, second = nn.Linear(shape[1], r, device="meta"), nn.Linear(r, shape[0], device="meta")
        down = vt
    else:
        dims = len(like.kernel_size) - 1
        window = {"kernel_size": like.kernel_size, "stride": like.stride, "padding": like.padding}
        window |= {"dilation": like.dilation, "device": "meta"}
        if issubclass(kind, LowRankConvTranspose):
            first = CONVOLUTIONS[dims](shape[0], r, 1, device="meta")
            second = TRANSPOSED[dims](r, shape[1], output_padding=like.output_padding, **window)
            down, up = up.t(), vt
        else:
            first = CONVOLUTIONS[dims](shape[1], r, padding_mode=like.padding_mode, **window)
            second = CONVOLUTIONS[dims](r, shape[0], 1, device="meta")
            down = vt
    for layer, matrix, part in ((first, down, "down"), (second, up, "up")):
        weight = Parameter(matrix.reshape(layer.get_parameter("weight").shape).contiguous())
        layer.register_parameter("weight", weight if twin is None else twin.get_parameter(f"{part}.weight"))
    first.register_parameter("bias", None)
    second.register_parameter("bias", like._parameters.get("bias"))
    thin = Thin(first, second, shell, shape)
    vars(thin).update(shell.settings_of(like))
    return thin.train(like.training)
