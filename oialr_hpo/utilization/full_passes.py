"""Whether a change of one layer leaves a network accurate enough, the plain way: by measuring all of it each time."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from oialr_hpo.utilization.batches import percent


class FullPasses:
    """An opaque function measures the whole network each time."""

    def __init__(self, evaluate: Callable[[nn.Module], float], network: nn.Module) -> None:
        self._evaluate, self._network = evaluate, network
        self.passes = 0.0
        self.original = self.accuracy()
        if self.original <= 1:
            raise ValueError(
                f"evaluate gave {self.original:g}, which as percent is too little to search ranks with; "
                "if it is a share of 1, let it give 100 times as much"
            )

    def enter(self, layer: str, users: Collection[nn.Module]) -> None:
        """Goes on to a layer of the network as it is, which makes no difference here."""

    def accuracy(self, floor: float | None = None) -> float:
        self.passes += 1
        with torch.no_grad():
            accuracy = percent(self._evaluate(self._network))
        self._network.eval()
        return accuracy

    def settled(self, accuracy: float) -> float:
        """What was measured with the layer's present weight is exact already."""
        return accuracy
