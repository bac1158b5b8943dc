"""Weight matrices from dense to U Sigma V^T, and networks in the shapes of saved ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from oialr_hpo.oialr.attention import Attention
from oialr_hpo.oialr.decomposition import exactly, svd_with_free_bases
from oialr_hpo.oialr.distributed import plain, unwrapped
from oialr_hpo.oialr.layers import LowRank, become, low_rank_kind
from oialr_hpo.oialr.merging import thin_layer
from oialr_hpo.oialr.optimizers import Optimizers
from oialr_hpo.oialr.planning import Layer, Report, plan
from oialr_hpo.oialr.recurrent import RECURRENT, Recurrent
from oialr_hpo.oialr.saved_names import under_own_names

STORED = ("weight", "u", "sigma", "vt", "down.weight", "up.weight")  # a weight's keys: dense, low-rank, merged


def planned_weights(model: nn.Module, layers: Report) -> list[Parameter]:
    """The dense weights that `convert` will replace."""
    return [model.get_parameter(layer.parameter) for layer in layers if not layer.reason]


@exactly()
def convert(
    model: nn.Module,
    layers: Report,
    optimizers: Optimizers | None = None,
    group: dist.ProcessGroup | None = None,
) -> dict[str, list[LowRank]]:
    """Replaces every planned weight by its full-rank SVD (Algorithm 2, line 5), in place.

    In `optimizers`, Sigma takes the weight's place in its parameter group, with its state in the new basis.
    Returns the low-rank modules by layer name, several per name where a weight is tied. Raises
    FloatingPointError for a weight with NaN or infinity, or singular values beyond its precision, before anything is
    replaced. The processes of `group` get identical bits.
    """
    planned = [layer for layer in layers if not layer.reason]
    weights = {layer.name: model.get_parameter(layer.parameter) for layer in planned}
    factors = {}
    for name, weight in weights.items():
        u, s, vt = svd_with_free_bases(weight.flatten(1), name, group)
        if s[0] > torch.finfo(weight.dtype).max:
            kind = str(weight.dtype).removeprefix("torch.")
            raise FloatingPointError(f"layer '{name}': {kind} cannot hold its singular values; use bfloat16 or float32")
        factors[name] = (u, torch.diag(s), vt)
    unfuse(model, planned)
    modules = {}
    for layer in planned:
        modules[layer.name] = _replace(model, layer, *factors.pop(layer.name))
        if optimizers:
            low_rank = modules[layer.name][0]
            optimizers.replace(weights[layer.name], low_rank.sigma, low_rank.u, low_rank.vt.t())
    return modules


@exactly()
def reshape(
    model: nn.Module, layers: Report, ranks: Mapping[str, int], optimizers: Optimizers | None = None
) -> dict[str, list[LowRank]]:
    """Gives a dense network the shapes of one with these ranks; the values are zeros, to be loaded."""
    planned = [layer for layer in layers if layer.name in ranks]
    weights = {layer.name: model.get_parameter(layer.parameter) for layer in planned}
    unfuse(model, planned)
    modules = {}
    for layer in planned:
        weight = weights[layer.name]
        modules[layer.name] = _replace(model, layer, *empty_factors(weight, layer.shape, ranks[layer.name]))
        if optimizers:
            optimizers.replace(weight, modules[layer.name][0].sigma)
    return modules


def empty_factors(like: Tensor, shape: tuple[int, int], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros in the shapes of U, Sigma and V^T; the bases in at least float32."""
    master = torch.promote_types(like.dtype, torch.float32)
    (m, n), zeros = shape, like.new_zeros
    return zeros(m, rank, dtype=master), zeros(rank, rank), zeros(rank, n, dtype=master)


def unfuse(model: nn.Module, layers: Iterable[Layer]) -> None:
    """Makes layers of the matrices inside attention and recurrent layers wherever one of them is in `layers`."""
    unfuse_around(model, (name for layer in layers for name in layer.users))


def unfuse_around(model: nn.Module, names: Iterable[str]) -> None:
    """The same by the names of matrices."""
    for parent in {name.rpartition(".")[0] for name in names}:
        fused = model.get_submodule(parent)
        if isinstance(fused, nn.MultiheadAttention):
            become(fused, Attention(fused))
        elif isinstance(fused, RECURRENT):
            become(fused, Recurrent(fused))


def _replace(model: nn.Module, layer: Layer, u: Tensor, sigma: Tensor, vt: Tensor) -> list[LowRank]:
    weight = model.get_submodule(layer.name).get_parameter("weight")
    layer.rank = len(sigma)
    return put(model, layer.users, frozen(u), Parameter(sigma.to(weight.dtype), weight.requires_grad), frozen(vt))


def put(model: nn.Module, users: Iterable[str], u: Parameter, sigma: Parameter, vt: Parameter) -> list[LowRank]:
    """Low-rank layers with the same factors in the places of the dense layers `users`."""
    modules: list[Any] = [model.get_submodule(name) for name in users]
    for module in modules:
        become(module, low_rank_kind(module)(module, u, sigma, vt))
    return modules


def frozen(tensor: Tensor) -> Parameter:
    return Parameter(tensor.contiguous(), requires_grad=False)


def load_low_rank(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Loads the state dict of a low-rank or merged network into `model`, a dense one of the same kind.

    The model takes on the shapes of the state, and is returned. A tied weight may be stored once, as
    `safetensors.torch.save_model` does; either of both may be inside torch.compile or DistributedDataParallel, also in
    parts; names may be those under which transformers saves the network. Raises RuntimeError, as `load_state_dict`
    does, for keys that do not fit.
    """
    network = unwrapped(model)
    layers, state = plan(network), _under_names_of(network, state_dict)
    for layer, part in product(layers, STORED):
        users = [
            name for name in layer.users if not {name, f"{name}_weight"} & state.keys()
        ]  # else whole, inside a layer
        stored = [state[key] for name in users if (key := f"{name}.{part}") in state]
        state |= {f"{name}.{part}": stored[0] for name in users if stored}
    with exactly():
        _take_shapes(network, layers, state)
    network.load_state_dict(state)
    return model


def _take_shapes(network: nn.Module, layers: Report, state: Mapping[str, Tensor]) -> None:
    """Gives dense layers the low-rank or thin shapes that `state`, under their names, is of."""
    ranks, thin = (
        {key.removesuffix(suffix): len(value) for key, value in state.items() if key.endswith(suffix)}
        for suffix in (".sigma", ".down.weight")
    )
    reshape(network, layers, ranks)
    unfuse_around(network, (name for layer in layers for name in layer.users if _stored_apart(name, state)))
    for layer in layers:
        twin = None
        for name in layer.users:
            if name in thin:
                dense = network.get_submodule(name)
                weight = dense.get_parameter("weight")
                up, _, vt = empty_factors(weight, layer.shape, thin[name])
                twin = thin_layer(dense, vt.to(weight.dtype), up.to(weight.dtype), twin)
                become(dense, twin)


def _stored_apart(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a matrix inside an attention or a recurrent layer is stored as a layer of its own."""
    inside = f"{name.rpartition('.')[0]}.in_proj".removeprefix(".") if name.endswith("out_proj") else name
    return any(f"{inside}.{part}" in state for part in STORED)


def _under_names_of(network: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state under the network's own names, whichever parts of either were compiled or wrapped."""
    modules = {plain(name): name for name, _ in network.named_modules(remove_duplicate=False)}
    state = {plain(key): value for key, value in state_dict.items()}
    if "module" not in modules and any(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items() if key.startswith("module.")}
    state = under_own_names(network, state)
    places: dict[nn.Module, list[str]] = {}  # a module under two names may be stored under one of them
    for name, module in network.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(name)
    named: dict[str, Tensor] = {}
    elsewhere: dict[str, Tensor] = {}
    for key, value in state.items():
        owner = key
        while owner not in modules:
            owner = owner.rpartition(".")[0]
        part = key.removeprefix(owner).removeprefix(".")
        named[f"{modules[owner]}.{part}".removeprefix(".")] = value
        elsewhere |= {f"{name}.{part}": value for name in places[network.get_submodule(modules[owner])] if name}
    return elsewhere | named


def successor(tensor: Tensor, old: Parameter) -> Parameter:
    """`tensor` as a parameter that is trained or frozen as `old`, with its gradient hooks and their handles."""
    new = Parameter(tensor.contiguous(), old.requires_grad)
    for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        if getattr(old, hooks, None):
            setattr(new, hooks, getattr(old, hooks))
    return new
