"""A network cut down to its utilized ranks: a layer becomes two, r x d and m x r (paper, sections 2.3 and 5.4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from torch.utils.flop_counter import FlopCounterMode

from oialr_hpo.oialr.conversion import dense_layer, swap, thin_layer
from oialr_hpo.oialr.layers import LowRank, Thin


@torch.no_grad()
def factorise(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """A copy in which each layer of `ranks` is two: V^T and U Sigma of its truncated singular value decomposition.

    All of them, also those that grow by it, so that fine-tuning cannot raise a rank; `compact` makes one layer of these
    again. To be called with the projected network and its ranks: `factorise(result.model, result.ranks)`.
    """
    model = copy.deepcopy(model)
    factors: dict[Tensor, tuple[Parameter, Parameter]] = {}  # tied layers stay tied
    named = {name: module for name, module in model.named_modules(remove_duplicate=False)}
    tied: dict[Tensor, list[nn.Module]] = {}
    for module in named.values():
        if isinstance(weight := module._parameters.get("weight"), Parameter):
            tied.setdefault(weight, []).append(module)
    for name, r in ranks.items():
        weight = named[name].get_parameter("weight")
        u, s, vt = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
        r = max(1, r)
        factors[weight] = tuple(  # type: ignore[assignment]
            Parameter(matrix.to(weight.dtype).contiguous()) for matrix in (vt[:r], u[:, :r] * s[:r])
        )
    for weight, (down, up) in factors.items():
        for module in tied[weight]:
            swap(model, module, thin_layer(module, down, up))
    return model


@torch.no_grad()
def compact(model: nn.Module) -> nn.Module:
    """Makes one layer again, in place, of every two that have more parameters than it: r (m + d) >= m d."""
    for module in list(model.modules()):
        if isinstance(module, Thin):
            m, d = module.up.weight.shape[0], module.down.weight[0].numel()
            if module.down.weight.shape[0] * (m + d) >= m * d:
                swap(model, module, _dense(module))
    return model


@torch.no_grad()
def densify(model: nn.Module) -> nn.Module:
    """Makes, in place, dense layers of a network trained by OIALR, merged or not, so that it can be analysed."""
    for module in list(model.modules()):
        if isinstance(module, Thin):
            swap(model, module, _dense(module))
        elif isinstance(module, LowRank):
            swap(model, module, dense_layer(module, Parameter(module.weight.detach().clone())))
    return model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def flops(model: nn.Module, images: Tensor) -> int:
    """Of one forward pass, multiplications and additions."""
    with FlopCounterMode(display=False) as counter:
        model(images.to(next(model.parameters()).device))
    return counter.get_total_flops()


def _dense(thin: Thin) -> nn.Module:
    like: Any = thin.down
    layer: Any = dense_layer(like, Parameter(thin.weight.detach().clone()))
    layer.bias = thin.bias
    return layer
