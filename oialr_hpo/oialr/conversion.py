"""Weight matrices: which can be low-rank, from dense to U Sigma V^T, and to two thin matrices at the end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from torch.nn.utils import parametrize

from oialr_hpo.oialr.decomposition import svd
from oialr_hpo.oialr.layers import Attention, LowRank, LowRankConv, LowRankLinear, Thin, linear_from
from oialr_hpo.oialr.optimizers import Optimizers

PROJECTIONS = (nn.Linear, nn.Conv1d, nn.Conv2d)
STORED = ("weight", "u", "sigma", "vt", "down.weight", "up.weight")  # a weight's keys: dense, low-rank, merged


@dataclass
class Layer:
    """One weight matrix of the network: m x n, its current rank, or the reason why it stays dense.

    `tied` names the other layers that use the same weight.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    reason: str = ""
    tied: list[str] = field(default_factory=list)
    rank: int | None = None

    @property
    def users(self) -> list[str]:
        return [self.name, *self.tied]


class Report(list[Layer]):
    """The network's weight matrices in order; printed as a table, a row per matrix."""

    def __str__(self) -> str:
        rows = [("layer", "kind", "m x n", "rank", "why dense")]
        for layer in self:
            name = ", ".join(layer.users)
            rank = "-" if layer.rank is None else str(layer.rank)
            rows.append((name, layer.kind, f"{layer.shape[0]} x {layer.shape[1]}", rank, layer.reason))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


def plan(
    model: nn.Module,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    keep_first: bool = False,
    keep_last: bool = False,
    min_size: int = 1,
) -> Report:
    """Which weights become low-rank, in the order of registration; changes nothing.

    `include` and `exclude` are shell patterns on layer names ('*.mlp.*'). `keep_first` and `keep_last` leave
    the network's first and last projection dense, convertible or not. Weights with min(m, n) < `min_size`
    stay dense. Raises ValueError for a pattern that matches no layer, and for a network that is low-rank.
    """
    layers = Report(_weights(model))
    for pattern in (*include, *exclude):
        if layers and not any(fnmatchcase(layer.name, pattern) for layer in layers):
            raise ValueError(f"no layer of {type(model).__name__} matches '{pattern}'; print(plan(model)) lists them")
    projections = [layer for layer in layers if layer.kind != "Embedding"]
    for layer in layers:
        if layer.reason:
            continue
        if keep_first and layer is projections[0]:
            layer.reason = "first layer kept"
        elif keep_last and layer is projections[-1]:
            layer.reason = "last layer kept"
        elif not any(fnmatchcase(layer.name, pattern) for pattern in include):
            layer.reason = "not included"
        elif any(fnmatchcase(layer.name, pattern) for pattern in exclude):
            layer.reason = "excluded"
        elif min(layer.shape) < min_size:
            layer.reason = f"smaller than {min_size}"
    return layers


def _weights(model: nn.Module) -> Iterable[Layer]:
    layers: dict[Tensor, Layer] = {}
    owned: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, (LowRank, Attention, Thin)):
            raise ValueError(f"layer '{name}' is low-rank already; OIALR starts from a dense network")
        if isinstance(module, nn.MultiheadAttention):
            owned.add(module.out_proj)
            reason = _attention_obstacle(name, module)
            parts = [("in_proj", module.in_proj_weight), ("out_proj", module.out_proj.weight)]
            found = [
                (f"{name}.{part}", "MultiheadAttention", weight, reason) for part, weight in parts if weight is not None
            ]
        elif module not in owned and getattr(module._parameters.get("weight"), "ndim", 0) >= 2:
            weight = module.get_parameter("weight")
            found = [(name, type(module).__name__, weight, _obstacle(name, module))]
        elif parametrize.is_parametrized(module, "weight"):
            weight = module.parametrizations.weight.original
            found = [(name, type(module).__name__, weight, "parametrized")]
        else:
            continue
        for layer_name, kind, weight, reason in found:
            if weight in layers:
                first = layers[weight]
                first.tied.append(layer_name)
                first.reason = first.reason or (f"tied to {kind} '{layer_name}'" if reason else "")
                continue
            if not reason and not weight.requires_grad:
                reason = "frozen"
            if not reason and (weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None)):
                reason = "gradient hooks on its weight"
            shape = (weight.shape[0], weight[0].numel())
            layers[weight] = Layer(layer_name, kind, shape, reason)
    return layers.values()


def _obstacle(name: str, module: nn.Module) -> str:
    kind = type(module)
    if not isinstance(module, PROJECTIONS):
        return f"{kind.__name__} is not supported"
    if not name:
        return "the network itself; wrap it in nn.Sequential"
    base = next(base for base in PROJECTIONS if isinstance(module, base))
    if any(getattr(kind, name, None) is not getattr(base, name, None) for name in ("forward", "_conv_forward")):
        return f"{kind.__name__} has its own forward"
    if getattr(module, "groups", 1) > 1:
        return f"{module.groups} groups"
    return ""


def _attention_obstacle(name: str, attention: nn.MultiheadAttention) -> str:
    if not name:
        return "the network itself; wrap it in nn.Sequential"
    if not attention._qkv_same_embed_dim:
        return "queries, keys and values differ in size"
    if attention.bias_k is not None or attention.add_zero_attn:
        return "bias_k, bias_v or add_zero_attn"
    return "" if type(attention) is nn.MultiheadAttention else f"{type(attention).__name__} has its own forward"


def planned_weights(model: nn.Module, layers: Report) -> list[Parameter]:
    """The dense weights that `convert` will replace."""
    weights = []
    for layer in layers:
        if not layer.reason:
            parent, _, part = layer.name.rpartition(".")
            attention = model.get_submodule(parent)
            fused = part == "in_proj" and isinstance(attention, nn.MultiheadAttention)
            weights.append(model.get_parameter(layer.name + ("_weight" if fused else ".weight")))
    return weights


@torch.no_grad()
def convert(
    model: nn.Module,
    layers: Report,
    optimizers: Optimizers | None = None,
    group: dist.ProcessGroup | None = None,
) -> dict[str, list[LowRank]]:
    """Replaces every planned weight by its full-rank SVD (Algorithm 2, line 5), in place.

    In `optimizers`, Sigma takes the weight's place in its parameter group, with its state in the new basis.
    Returns the low-rank modules by layer name, several per name where a weight is tied. Raises
    FloatingPointError for a weight with NaN or infinity, before any weight is replaced. The processes of
    `group` get identical bits.
    """
    planned = [layer for layer in layers if not layer.reason]
    unfuse(model, planned)
    factors = {}
    for layer in planned:
        weight = model.get_submodule(layer.name).get_parameter("weight")
        u, s, vt = svd(weight.flatten(1), layer.name, group)
        factors[layer.name] = (u, torch.diag(s), vt)
    modules = {}
    for layer in planned:
        weight = model.get_submodule(layer.name).get_parameter("weight")
        modules[layer.name] = _replace(model, layer, *factors.pop(layer.name))
        if optimizers:
            low_rank = modules[layer.name][0]
            optimizers.replace(weight, low_rank.sigma, low_rank.u, low_rank.vt.t())
    return modules


def reshape(
    model: nn.Module, layers: Report, ranks: Mapping[str, int], optimizers: Optimizers | None = None
) -> dict[str, list[LowRank]]:
    """Gives a dense network the shapes of one with these ranks; the values are zeros, to be loaded."""
    planned = [layer for layer in layers if layer.name in ranks]
    unfuse(model, planned)
    modules = {}
    for layer in planned:
        weight = model.get_submodule(layer.name).get_parameter("weight")
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
    """Makes layers of the projections inside `nn.MultiheadAttention` wherever one of them is in `layers`."""
    for parent in {name.rpartition(".")[0] for layer in layers for name in layer.users}:
        attention = model.get_submodule(parent)
        if isinstance(attention, nn.MultiheadAttention):
            swap(model, attention, Attention(attention))


def _replace(model: nn.Module, layer: Layer, u: Tensor, sigma: Tensor, vt: Tensor) -> list[LowRank]:
    dtype = model.get_submodule(layer.name).get_parameter("weight").dtype
    layer.rank = len(sigma)
    return put(model, layer.users, frozen(u), Parameter(sigma.to(dtype)), frozen(vt))


def put(model: nn.Module, users: Iterable[str], u: Parameter, sigma: Parameter, vt: Parameter) -> list[LowRank]:
    """Low-rank layers with the same factors in the places of the dense layers `users`."""
    modules: list[LowRank] = []
    for name in users:
        dense: Any = model.get_submodule(name)
        kind: Any = LowRankLinear if isinstance(dense, nn.Linear) else LowRankConv
        modules.append(kind(dense, u, sigma, vt))
        swap(model, dense, modules[-1])
    return modules


def frozen(tensor: Tensor) -> Parameter:
    return Parameter(tensor.contiguous(), requires_grad=False)


def swap(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` wherever `old` is registered, with its forward and backward hooks."""
    for name, value in vars(old).items():
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")) and "state_dict" not in name:
            setattr(new, name, value)
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, key, new)


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Replaces, in place, every low-rank layer by `Thin` (V^T, then U Sigma) or, where r (m + n) >= m n, by a
    dense layer. Both consist of plain torch layers, and all their weights can be trained. Returns `model`."""
    merged: dict[Parameter, list[Parameter]] = {}  # tied layers stay tied
    for layer in [module for module in model.modules() if isinstance(module, LowRank)]:
        (m, r), n, dtype = layer.u.shape, layer.vt.shape[1], layer.sigma.dtype
        dense = r * (m + n) >= m * n
        if layer.sigma not in merged:
            matrices = [layer.weight] if dense else [layer.vt, layer.u @ layer.sigma.to(layer.u.dtype)]
            merged[layer.sigma] = [Parameter(matrix.to(dtype)) for matrix in matrices]
        build = dense_layer if dense else thin_layer
        swap(model, layer, build(layer, *merged[layer.sigma]))
    return model


def load_low_rank(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Loads the state dict of a low-rank or merged network into `model`, a dense one of the same kind.

    The model takes on the shapes of the state, and is returned. A tied weight may be stored once, as
    `safetensors.torch.save_model` does. Raises RuntimeError, as `load_state_dict` does, for keys that do not fit.
    """
    layers = plan(model)
    state = dict(state_dict)
    for layer, part in product(layers, STORED):
        stored = [state[key] for name in layer.users if (key := f"{name}.{part}") in state]
        state |= {f"{name}.{part}": stored[0] for name in layer.users if stored}
    ranks, thin = (
        {key.removesuffix(suffix): len(value) for key, value in state.items() if key.endswith(suffix)}
        for suffix in (".sigma", ".down.weight")
    )
    for name, attention in list(model.named_modules()):
        if isinstance(attention, nn.MultiheadAttention) and f"{name}.in_proj_weight" not in state:
            swap(model, attention, Attention(attention))
    reshape(model, layers, ranks)
    for layer in layers:
        if layer.name in thin:
            weight = model.get_submodule(layer.name).get_parameter("weight")
            up, _, down = map(Parameter, empty_factors(weight, layer.shape, thin[layer.name]))
            for name in layer.users:
                dense = model.get_submodule(name)
                swap(model, dense, thin_layer(dense, down, up))
    model.load_state_dict(state)
    return model


def dense_layer(like: Any, weight: Parameter) -> nn.Module:
    """A plain layer with the geometry and the bias of `like` (dense or low-rank) and another weight."""
    layer: Any = linear_from(weight, None)
    if hasattr(like, "kernel_size"):
        layer = (nn.Conv1d, nn.Conv2d)[len(like.kernel_size) - 1](
            like.in_channels,
            weight.shape[0],
            like.kernel_size,
            like.stride,
            like.padding,
            like.dilation,
            padding_mode=like.padding_mode,
            bias=False,
            device="meta",
        )
        layer.weight = weight
    layer.bias = like.bias
    return layer.train(like.training)


def thin_layer(like: Any, down: Parameter, up: Parameter) -> Thin:
    """V^T in the geometry of `like`, then U Sigma with its bias."""
    bias = like.bias
    first: Any
    second: Any
    if not hasattr(like, "kernel_size"):
        first, second = linear_from(down, None), linear_from(up, bias)
    else:
        kernel, ones = like.kernel_size, (1,) * len(like.kernel_size)
        first = dense_layer(like, Parameter(down.view(len(down), like.in_channels, *kernel)))
        first.bias = None
        second = type(first)(len(down), len(up), 1, bias=False, device="meta")
        second.weight, second.bias = Parameter(up.view(*up.shape, *ones)), bias
    return Thin(OrderedDict(down=first, up=second)).train(like.training)
