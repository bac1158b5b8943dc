"""A network whose weights become products of smaller matrices while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oialr_hpo.methods import Method

if TYPE_CHECKING:
    from torch import Tensor, nn


class LowRank(Method):
    """Its weights are loaded with the ranks that they have."""

    @classmethod
    def load_weights(cls, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
        from oialr_hpo.oialr import load_low_rank

        return load_low_rank(network, weights)
