"""Averages of a network's weights (EMA, SWA) that follow its change-over, its updates of bases and its cuts.

Averages are made element by element, which has a meaning only between weights in the same basis. Therefore an average
is kept in the network's present bases: W_avg = U (U^T W_avg V) V^T with the network's U and V, after which the
element-wise average of Sigma is the average of W. Where U and V span all that W_avg holds, W_avg stays as it is: at
every update without a cut. What lies outside is dropped: at the change-over the part of a non-square W_avg outside of
W's row or column space, at a cut the directions that the network itself gives up. Both parts would only fade from then
on, since the network no longer moves in them.

The averages of timm (ModelEma, ModelEmaV2, ModelEmaV3) and torch (AveragedModel) are followed by themselves: their
updates, which name both networks, first bring the average into the network's bases; from then on it goes along with
the network at once. For that, `watch` wraps the update methods of these classes, once. Others are handed over,
`OIALR(..., averages=[copy])`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from oialr_hpo.oialr.attention import Attention
from oialr_hpo.oialr.conversion import frozen, put
from oialr_hpo.oialr.decomposition import exactly
from oialr_hpo.oialr.distributed import plain, unwrapped
from oialr_hpo.oialr.layers import LowRank, become
from oialr_hpo.oialr.merging import merge
from oialr_hpo.oialr.recurrent import RECURRENT, Recurrent

UPDATES = [
    ("torch.optim.swa_utils", "AveragedModel", "update_parameters"),
    ("timm.utils.model_ema", "ModelEma", "update"),
    ("timm.utils.model_ema", "ModelEmaV2", "update"),
    ("timm.utils.model_ema", "ModelEmaV2", "set"),
    ("timm.utils.model_ema", "ModelEmaV3", "update"),
    ("timm.utils.model_ema", "ModelEmaV3", "set"),
]
_seen: WeakKeyDictionary[nn.Module, WeakSet[nn.Module]] = WeakKeyDictionary()


def watch() -> None:
    """Lets the averages of torch and timm, as far as imported, follow the network with which they are updated."""
    for module, kind, method in UPDATES:
        owner = getattr(sys.modules.get(module), kind, None)
        update = vars(owner).get(method) if owner else None
        if update is not None and not hasattr(update, "follows"):
            setattr(owner, method, _following(update))


def _following(update: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(update)
    def followed(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        network = unwrapped(model)
        if (copy := _copy_in(self, network)) is not None:
            _seen.setdefault(network, WeakSet()).add(copy)
            follow(copy, network)
        return update(self, model, *args, **kwargs)

    followed.follows = True  # type: ignore[attr-defined]
    return followed


def copy_in(average: Any, network: nn.Module) -> nn.Module:
    """The copy of `network` that `average` is, or holds as a submodule or attribute. Raises TypeError without one."""
    copy = _copy_in(average, network)
    if copy is None:
        kind = type(network).__name__
        raise TypeError(f"OIALR: averages: {type(average).__name__} holds no copy of the network, a {kind}")
    return copy


def _copy_in(average: Any, network: nn.Module) -> nn.Module | None:
    modules = average.modules() if isinstance(average, nn.Module) else getattr(average, "__dict__", {}).values()
    for module in modules:
        copy = unwrapped(module) if isinstance(module, nn.Module) else None
        if copy is None or copy is network or _kind(copy) != _kind(network):
            continue
        if copy._modules.keys() == network._modules.keys():
            return copy
    return None


def _kind(module: nn.Module) -> tuple[str, str]:
    """A module's class by name: that of a torch.fx graph, and of a parametrized module, is another in each copy."""
    return type(module).__module__, type(module).__qualname__


def follow_all(network: nn.Module, given: Iterable[Any]) -> None:
    """Brings all known averages of `network`, and those in `given`, into its present bases."""
    watch()
    for copy in {*(copy_in(average, network) for average in given), *_seen.get(network, ())}:
        follow(copy, network)


@exactly()
def follow(average: nn.Module, network: nn.Module) -> None:
    """Gives `average`, a copy of `network` from whenever, the layers, bases and ranks that `network` has now."""
    names = {plain(name): name for name, _ in average.named_modules(remove_duplicate=False)}
    layers: dict[Parameter, dict[str, LowRank]] = {}  # tied layers share Sigma
    for its_name, module in network.named_modules():
        name = names.get(plain(its_name), its_name)
        if isinstance(module, LowRank):
            layers.setdefault(module.sigma, {})[name] = module
        elif isinstance(module, (Attention, Recurrent)):
            dense = average.get_submodule(name)
            if isinstance(dense, (nn.MultiheadAttention, *RECURRENT)):
                become(dense, type(module)(dense))  # type: ignore[arg-type]
    if not layers and any(isinstance(module, LowRank) for module in average.modules()):
        merge(average)
    for users in layers.values():
        _follow_layer(average, users)


def _follow_layer(average: nn.Module, users: dict[str, LowRank]) -> None:
    name, layer = next(iter(users.items()))
    ours: Any = average.get_submodule(name)
    low_rank = isinstance(ours, LowRank)
    if not (low_rank and _same_bases(ours, layer)):
        old = ours.sigma if low_rank else ours.weight
        u, vt = (basis.to(old.device, copy=True) for basis in (layer.u, layer.vt))
        sigma = Parameter(_expressed(ours, u, vt).to(old.dtype), requires_grad=old.requires_grad)
        if low_rank:
            factors = frozen(u), sigma, frozen(vt)
            for user in users:
                average.get_submodule(user).set_factors(*factors)  # type: ignore[operator]
        else:
            put(average, users, frozen(u), sigma, frozen(vt))
    for user, module in users.items():
        average.get_submodule(user).basis = module.basis  # type: ignore[assignment]


def _same_bases(ours: LowRank, layer: LowRank) -> bool:
    if ours.basis == layer.basis:
        return True
    pairs = (ours.u, layer.u), (ours.vt, layer.vt)
    return all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b.to(a.device)) for a, b in pairs)


def _expressed(ours: Any, u: Tensor, vt: Tensor) -> Tensor:
    """U^T W V, with W the dense or low-rank weight of `ours`."""
    if isinstance(ours, LowRank):
        return (u.t() @ ours.u.to(u.dtype)) @ ours.sigma.to(u.dtype) @ (ours.vt.to(u.dtype) @ vt.t())
    return u.t() @ ours.weight.flatten(1).to(u.dtype) @ vt.t()
