"""How large a network is, in parameters and in percent of a dense network."""

from collections.abc import Iterable
from typing import Any

from torch import nn

SIZES = ("parameters", "trainable_parameters", "total_percent", "trainable_percent")


def count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def sizes(model: nn.Module, dense: int) -> dict[str, Any]:
    """The network's parameters, frozen ones too, and those that are trained.

    Args:
        model: of any method, at any time.
        dense: parameters that make 100 %.
    """
    total, trained = count(model.parameters()), count(p for p in model.parameters() if p.requires_grad)
    return dict(zip(SIZES, (total, trained, 100 * total / dense, 100 * trained / dense), strict=True))
