"""Which optimizers there are, read off timm's source, so that torch is not imported."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from oialr_hpo.mistake import hint

FUSED = ("adamw", "adam", "sgd")
"""Those of torch, in their fused form."""
REGISTERED = re.compile(r"^\s+name=['\"](\w+)['\"]|\.register_alias\(['\"](\w+)['\"]", re.M)
NEEDED = {"fused": "apex", "bnb": "bitsandbytes"}
LOOKAHEAD = "lookahead_"


@cache
def optimizer_names() -> frozenset[str]:
    """The names of the optimizers that `oialr_hpo.training.optimizer.make_optimizer` knows."""
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
    if name.removeprefix(LOOKAHEAD) in known:
        return name
    remedy = hint(name.lower(), known) or " choose one such as adamw, sgd, lamb, lion"
    raise ValueError(f"neither torch nor timm has an optimizer {name!r};{remedy}")
