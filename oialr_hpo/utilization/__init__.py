"""How much of each layer's space the data use: utilized rank, and networks cut down to it.

The method of "Revealing the Utilized Rank of Subspaces of Learning in Neural Networks", arXiv:2407.04797.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oialr_hpo.utilization.accuracy import Accuracy
    from oialr_hpo.utilization.analysis import analyse
    from oialr_hpo.utilization.factorisation import compact, factorise
    from oialr_hpo.utilization.found import LayerUtilization, Utilization

__all__ = ["Accuracy", "LayerUtilization", "Utilization", "analyse", "compact", "factorise"]

_HOMES = {
    "accuracy": ("Accuracy",),
    "analysis": ("analyse",),
    "factorisation": ("compact", "factorise"),
    "found": ("LayerUtilization", "Utilization"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():  # here, since they import torch, and the options of the command do not
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
