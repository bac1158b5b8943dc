"""The optimizers: torch's own, fused; those of timm's factory; or one's own, as `package.module:Class`.

An optimizer of one's own extends `torch.optim.Optimizer` and is called with the parameters, `lr`, `weight_decay`, the
`momentum` if it names one, and `training.optimizer_arguments`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oialr_hpo.extension import resolve
from oialr_hpo.mistake import hint

if TYPE_CHECKING:
    from torch.optim import Optimizer

FUSED = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
"""Those of torch, in their fused form."""
REGISTERED = re.compile(r"^\s+name=['\"](\w+)['\"]|\.register_alias\(['\"](\w+)['\"]", re.M)
NEEDED = {"fused": "apex", "bnb": "bitsandbytes"}
LOOKAHEAD = "lookahead_"


@cache
def optimizer_names() -> frozenset[str]:
    """The names of the built-in optimizers; timm's are read off its source, so that torch is not imported."""
    spec = find_spec("timm")
    (package,) = (spec and spec.submodule_search_locations) or (".",)
    source = (Path(package) / "optim" / "_optim_factory.py").read_text(encoding="utf-8")
    registered = {name or alias for name, alias in REGISTERED.findall(source)}
    missing = tuple(prefix for prefix, package in NEEDED.items() if find_spec(package) is None)
    second_order = {"adahessian"}
    return frozenset({*FUSED, *registered} - second_order - {n for n in registered if n.startswith(missing)})


def check_optimizer_name(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: there is no such optimizer; the message names the most similar one.
    """
    known = optimizer_names()
    if name.removeprefix(LOOKAHEAD) in known or ":" in name:
        return name
    remedy = hint(name.lower(), known) or " choose one such as adamw, sgd, lamb, lion"
    raise ValueError(f"neither torch nor timm has an optimizer {name!r};{remedy}")


def load_optimizer(path: str) -> type[Optimizer]:
    """Someone's own optimizer.

    Raises:
        LookupError: there is none.
    """
    found: Any = resolve(path, "optimizer", FUSED)
    from torch.optim import Optimizer

    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        what = "it does not extend torch.optim.Optimizer" if isinstance(found, type) else "it is no class"
        raise LookupError(f"{path!r} is no optimizer: {what}")
    return found


def create_optimizer(
    name: str,
    groups: Iterable[Any],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    arguments: Mapping[str, Any],
) -> Optimizer:
    """An optimizer of some parameters, or groups of them.

    Args:
        momentum: of those that have one.
        arguments: its own.

    Raises:
        LookupError: there is no such optimizer.
        ValueError: it does not know an argument.
    """
    import torch

    own = {key: tuple(each) if isinstance(each, list) else each for key, each in arguments.items()}
    given: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, **own}
    kind: Any
    try:
        if name in FUSED:
            kind, given = getattr(torch.optim, FUSED[name]), {"fused": True, **given}
        elif ":" in name:
            kind = load_optimizer(name)
        else:
            from timm.optim import create_optimizer_v2

            return create_optimizer_v2(groups, name, momentum=momentum, **given)
        if "momentum" in inspect.signature(kind).parameters:
            given = {"momentum": momentum, **given}
        optimizer: Optimizer = kind(groups, **given)
        return optimizer
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ValueError(f"training.optimizer_arguments: {name}: {error}") from error
