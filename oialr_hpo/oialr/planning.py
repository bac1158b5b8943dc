"""Which weights of a network become low-rank, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy
from torch.nn.utils import parametrize

from oialr_hpo.oialr.attention import Attention
from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.oialr.layers import LowRank, base_of
from oialr_hpo.oialr.merging import Thin
from oialr_hpo.oialr.recurrent import RECURRENT, Recurrent, matrix_names

NO_WEIGHT = "not the weight of a layer"
NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass
class Layer:
    """One weight matrix of the network: m x n, its current rank, or the reason why it stays dense.

    `parameter` is its name in the dense network; `tied` names the other layers that use the same weight.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    parameter: str
    reason: str = ""
    tied: list[str] = field(default_factory=list)
    rank: int | None = None

    @property
    def users(self) -> list[str]:
        return [self.name, *self.tied]


class Report(list[Layer]):
    """The network's parameters of two dimensions or more, in order; printed as a table, a row per matrix."""

    def __str__(self) -> str:
        rows = [("layer", "kind", "m x n", "rank", "why dense")]
        for layer in self:
            rank = "-" if layer.rank is None else str(layer.rank)
            shape = f"{layer.shape[0]} x {layer.shape[1]}" if any(layer.shape) else "?"
            rows.append((", ".join(layer.users), layer.kind, shape, rank, layer.reason))
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

    Every parameter of two dimensions or more has a row: a layer's weight under the layer's name, any other under its
    own. `include` and `exclude` are shell patterns on these names ('*.mlp.*'). `keep_first` and `keep_last` leave
    the network's first and last projection dense, convertible or not; embeddings and norms are none, and a head that
    is tied to an embedding is one. Weights with min(m, n) < `min_size` stay dense.

    Raises ValueError for a pattern that matches no layer, and for a network that is low-rank.
    """
    layers, projections = _weights(unwrapped(model))
    for pattern in (*include, *exclude):
        if layers and not any(fnmatchcase(layer.name, pattern) for layer in layers):
            raise ValueError(f"no layer of {type(model).__name__} matches '{pattern}'; print(plan(model)) lists them")
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


def _weights(model: nn.Module) -> tuple[Report, list[Layer]]:
    """All rows, and those of the projections in the order of the modules: a tied weight at each of its places."""
    layers: dict[Tensor, Layer] = {}
    projections: list[Layer] = []
    owned: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, (LowRank, Attention, Thin, Recurrent)):
            raise ValueError(f"layer '{name}' is low-rank already; OIALR starts from a dense network")
        if module in owned:
            continue
        if isinstance(module, nn.MultiheadAttention):
            owned.add(module.out_proj)
        if parametrize.is_parametrized(module):
            owned |= {module.parametrizations, *module.parametrizations.children()}
        for layer, weight, projection in _rows(name, module):
            if weight not in layers:
                layer.reason = layer.reason or _unfit(weight)
                layers[weight] = layer
            else:
                first = layers[weight]
                first.tied.append(layer.name)
                first.reason = first.reason or (f"tied to {layer.kind} '{layer.name}'" if layer.reason else "")
            if projection:
                projections.append(layers[weight])
    return Report(layers.values()), projections


def _rows(name: str, module: nn.Module) -> Iterator[tuple[Layer, Tensor, bool]]:
    """Layer, weight, and whether it is a projection, for the weights that `module` itself holds."""
    kind = type(module).__name__
    reason = "" if name else "the network itself; wrap it in nn.Sequential"

    def row(layer: str, parameter: str, weight: Tensor, reason: str) -> tuple[Layer, Tensor]:
        shape = (0, 0) if is_lazy(weight) else (weight.shape[0], weight.shape[1:].numel())
        return Layer(layer, kind, shape, parameter, reason), weight

    def path(parameter: str) -> str:
        return f"{name}.{parameter}" if name else parameter

    matrices = {part: weight for part, weight in _parameters(module) if is_lazy(weight) or weight.dim() >= 2}
    if isinstance(module, nn.MultiheadAttention):
        matrices |= {f"out_proj.{part}": weight for part, weight in _parameters(module.out_proj) if weight.dim() >= 2}
        reason = reason or _attention_obstacle(module)
        for part, weight in matrices.items():
            projected = part in ("in_proj_weight", "out_proj.weight")
            layer = path(part.removesuffix("_weight").removesuffix(".weight") if projected else part)
            why = reason or ("" if projected else "not a projection of queries, keys and values together")
            yield *row(layer, path(part), weight, why), part not in ("bias_k", "bias_v")
    elif isinstance(module, RECURRENT):
        reason = reason or _own_forward(module, next(base for base in RECURRENT if isinstance(module, base)))
        reason = reason or ("parametrized" if parametrize.is_parametrized(module) else "")
        own = matrix_names(module)
        if not reason and not matrices.keys() >= set(own):
            reason = "its weights are computed from other parameters"
        for part, weight in matrices.items():
            yield *row(path(part), path(part), weight, reason or ("" if part in own else NO_WEIGHT)), part in own
    elif "weight" not in matrices and (matrices and base_of(module) is not None):
        part, weight = max(matrices.items(), key=lambda item: item[1].numel())
        parts = ", ".join(sorted(matrices))
        yield *row(name, path(part), weight, f"its weight is computed from {parts}"), True
    else:
        projects = base_of(module) is not None or not any(word in kind for word in ("Embedding", "Norm"))
        for part, weight in matrices.items():
            if part == "weight":
                yield *row(name, path(part), weight, reason or _obstacle(module)), projects
            else:
                yield *row(path(part), path(part), weight, NO_WEIGHT), False


def _parameters(module: nn.Module) -> Iterator[tuple[str, Parameter]]:
    """The module's own parameters by name, those behind parametrizations too."""
    yield from ((name, parameter) for name, parameter in module._parameters.items() if parameter is not None)
    if parametrize.is_parametrized(module):
        for name, behind in module.parametrizations.items():  # type: ignore[union-attr, operator]
            yield from ((f"parametrizations.{name}.{part}", tensor) for part, tensor in behind._parameters.items())


def _obstacle(module: nn.Module) -> str:
    base, kind = base_of(module), type(module).__name__
    if base is None:
        return f"{kind} is not supported"
    if parametrize.is_parametrized(module) or "bias" not in module._parameters:
        return "its bias is computed from other parameters"
    if getattr(module, "groups", 1) > 1:
        return f"{module.groups} groups"
    return _own_forward(module, base)


def _own_forward(module: nn.Module, base: type[nn.Module]) -> str:
    if "forward" in vars(module):
        return "its forward was replaced, as by accelerate's hooks"
    methods = ("forward", "_conv_forward", "__call__")
    if any(getattr(type(module), name, None) is not getattr(base, name, None) for name in methods):
        return f"{type(module).__name__} has its own forward"
    for kind in type(module).__mro__[: type(module).__mro__.index(base)]:
        for name, value in vars(kind).items():
            if (callable(value) or hasattr(value, "__get__")) and not (name.startswith("_") or hasattr(base, name)):
                return f"{kind.__name__} has its own '{name}', which a low-rank layer would lack"
    return ""


def _attention_obstacle(attention: nn.MultiheadAttention) -> str:
    if any(map(parametrize.is_parametrized, (attention, attention.out_proj))):
        return "parametrized"
    if "weight" not in attention.out_proj._parameters or "in_proj_weight" not in attention._parameters:
        return "its weights are computed from other parameters"
    if not attention._qkv_same_embed_dim:
        return "queries, keys and values differ in size"
    if attention.bias_k is not None or attention.add_zero_attn:
        return "bias_k, bias_v or add_zero_attn"
    return _own_forward(attention, nn.MultiheadAttention) or _own_forward(attention.out_proj, nn.Linear)


def _unfit(weight: Tensor) -> str:
    if is_lazy(weight):
        return "not initialised: run the network on a batch first"
    if weight.layout != torch.strided:
        return "sparse"
    if weight.is_complex():
        return "complex"
    if weight.dtype not in NUMBERS:
        return str(weight.dtype).removeprefix("torch.")
    if not weight.numel():
        return "empty"
    hooks = ("_backward_hooks", "_post_accumulate_grad_hooks", "_in_backward_optimizers")
    if any(getattr(weight, name, None) for name in hooks):
        return "gradient hooks on its weight"
    return "" if weight.requires_grad else "frozen"
