"""How often the layers of a network use their weights: what a method that counts FLOPs has to know."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from oialr_hpo.methods import Loop
from oialr_hpo.oialr import plan
from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.oialr.layers import LowRankConv1D, LowRankConvTranspose, low_rank_kind
from oialr_hpo.oialr.planning import Layer
from oialr_hpo.oialr.randomness import random_state_kept


def positions_of(loop: Loop, names: Collection[str]) -> dict[str, float]:
    """To how many vectors (tokens, or positions of images) the weights of planned layers are applied in the loss of a
    training batch: so many times 2 m n FLOPs take their products. The network and the random numbers stay as they are.
    """
    network = unwrapped(loop.model)
    probe = copy.deepcopy(network).eval()
    found = dict.fromkeys(names, 0.0)
    for layer in plan(network):
        for name in layer.users if layer.name in found else ():
            around = probe.get_submodule(name.rpartition(".")[0])
            used = around if isinstance(around, nn.MultiheadAttention) else probe.get_submodule(name)
            used.register_forward_hook(_counting(found, layer), with_kwargs=True)
    with torch.no_grad(), random_state_kept(next(network.parameters()).device):
        loop.loss(probe, next(loop.batches()))
    return found


def _counting(found: dict[str, float], layer: Layer) -> Any:
    def count(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        given = args[0] if args else next(iter(named.values()))
        if isinstance(module, nn.MultiheadAttention):
            found[layer.name] += given.numel() / module.embed_dim
        elif issubclass(low_rank_kind(module), (LowRankConv1D, LowRankConvTranspose)):  # whose m are inputs
            found[layer.name] += given.numel() / layer.shape[0]
        else:
            found[layer.name] += output.numel() / layer.shape[0]

    return count
