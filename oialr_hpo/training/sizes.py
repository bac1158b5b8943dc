"""How large a network is, in parameters and in percent of a dense network."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

SIZES = ("parameters", "trainable_parameters", "total_percent", "trainable_percent")


@dataclass
class Dense:
    """The dense network that makes 100 %.

    Attributes:
        parameters: None: those of the task's network before it is converted.
        flops: of a sample's way through it; None: not counted yet, zero: they cannot be.
    """

    parameters: int | None = None
    flops: float | None = None


def count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def sizes(parameters: tuple[int, int], dense: int) -> dict[str, Any]:
    """The sizes of a network.

    Args:
        parameters: its own, frozen ones too, and those that are trained.
        dense: parameters that make 100 %.
    """
    total, trained = parameters
    return dict(zip(SIZES, (total, trained, 100 * total / dense, 100 * trained / dense), strict=True))
