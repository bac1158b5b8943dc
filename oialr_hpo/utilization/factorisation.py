"""A network cut down to its utilized ranks: a layer becomes two, r x d and m x r (paper, sections 2.3 and 5.4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from oialr_hpo.oialr.layers import LowRank, become
from oialr_hpo.oialr.merging import Thin, dense_layer, thin_layer
from oialr_hpo.oialr.recurrent import Recurrent
from oialr_hpo.training.flops import count_flops


@torch.no_grad()
def factorise(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """A copy in which each layer of `ranks` is two: V^T and U Sigma of its truncated singular value decomposition.

    All of them, also those that grow by it, so that fine-tuning cannot raise a rank; `compact` makes one layer of these
    again. To be called with the projected network and its ranks: `factorise(result.model, result.ranks)`.
    """
    model = copy.deepcopy(model)
    factors: dict[Tensor, tuple[Tensor, Tensor]] = {}  # tied layers stay tied
    named = {name: module for name, module in model.named_modules(remove_duplicate=False)}
    tied: dict[Tensor, list[nn.Module]] = {}
    for module in named.values():
        if isinstance(weight := module._parameters.get("weight"), Parameter):
            tied.setdefault(weight, []).append(module)
    for name, r in ranks.items():
        weight = named[name].get_parameter("weight")
        u, s, vt = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
        r = max(1, r)
        factors[weight] = vt[:r].to(weight.dtype), (u[:, :r] * s[:r]).to(weight.dtype)
    for weight, (vt, up) in factors.items():
        twin = None
        for module in tied[weight]:
            twin = thin_layer(module, vt, up, twin)
            become(module, twin)
    return model


@torch.no_grad()
def compact(model: nn.Module) -> nn.Module:
    """Makes one layer again, in place, of every two that have more parameters than it: r (m + d) >= m d."""
    for module in list(model.modules()):
        if isinstance(module, Thin):
            m, d = module.up.get_parameter("weight").shape[0], module.down.get_parameter("weight")[0].numel()
            if len(module.down.get_parameter("weight")) * (m + d) >= m * d:
                become(module, _dense(module))
    return model


@torch.no_grad()
def densify(model: nn.Module) -> nn.Module:
    """Makes, in place, dense layers of a network trained by OIALR, merged or not, so that it can be analysed."""
    for module in list(model.modules()):
        if isinstance(module, (LowRank, Thin)):
            become(module, _dense(module))
    for module in list(model.modules()):
        if isinstance(module, Recurrent):
            become(module, module.merged())
    return model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def flops(model: nn.Module, images: Tensor) -> int:
    """Of one forward pass, multiplications and additions."""
    return count_flops(lambda: model(images.to(next(model.parameters()).device)))


def _dense(module: LowRank | Thin) -> nn.Module:
    return dense_layer(module, Parameter(module.weight.detach().clone()))
