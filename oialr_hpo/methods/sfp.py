"""SFP: soft filter pruning (He, Kang, Dong, Fu, Yang 2018, arXiv:1808.06866)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from oialr_hpo.methods import MethodSettings, Step
from oialr_hpo.methods._narrowing import Narrowing

if TYPE_CHECKING:
    from torch import nn


class SFP(Narrowing):
    """After every epoch the filters of a convolution with the smallest L2 norms are set to zero, and go on being
    trained; after the last one they are removed for good (Algorithm 1).

    The rate P is the same for all layers, and a layer of N filters loses the P N smallest, rounded down, as in the
    authors' code. A zero filter grows back under its norm and its bias, which stay; its momentum is cleared, of which
    the paper says nothing. (The authors' SGD keeps it. On digits AdamW's, kept, costs six points of accuracy.)

    The layers are those whose channels can be removed alone (`oialr_hpo.methods._channels`). The authors prune those
    before a residual sum too, whose channels cannot be removed without an index into the sum. A zero filter's map is
    zero, says the paper (section 3.2); with a norm or a bias behind it the map is a constant, which is removed along,
    as inside the blocks of the authors' compact ResNets. The last record is of the network without them.

    Records tell the widths and the number of parameters of an epoch's network without its zero filters, all of which
    are trained, until they are removed.
    """

    name = "sfp"

    class Settings(MethodSettings):
        """SFP's own setting (arXiv:1808.06866, section 3.2)."""

        rate: float = Field(
            default=0.3,
            gt=0,
            lt=1,
            description="P: of each layer's filters, zero after every epoch, removed at the end",
        )

    def make_step(self, step: Step) -> None:
        step.backward()
        step.update()
        self.steps += 1
        if self.steps % self.loop.steps_per_epoch == 0:
            kept = {name: self._largest(layer.conv) for name, layer in self.channels.layers.items()}
            if self.steps == self.loop.total_steps:
                self.channels.keep_all(kept)
            else:
                self._clear(kept)

    def _largest(self, conv: nn.Conv2d) -> list[int]:
        """The filters that stay."""
        norms = self.channels.agreed(conv.weight.detach().flatten(1).norm(dim=1))
        number = min(math.floor(round(self.settings.rate * len(norms), 9)), len(norms) - 1)
        return sorted(norms.argsort(stable=True)[number:].tolist())

    def _clear(self, kept: Mapping[str, list[int]]) -> None:
        """Set all other filters to zero, of the averages too."""
        from oialr_hpo.oialr.optimizer_state import LINEAR

        for name, filters in kept.items():
            weights = [network.get_parameter(f"{name}.weight") for network in self.channels.networks()]
            known = self.loop.optimizer.state.get(weights[0], {})
            stays = weights[0].new_zeros(len(weights[0])).index_fill(0, weights[0].new_tensor(filters).long(), 1)
            for each in (*weights, *(known[key] for key in known if key in LINEAR)):
                if getattr(each, "shape", None) == weights[0].shape:
                    each.data.mul_(stays.view(-1, 1, 1, 1))

    def layers(self) -> dict[str, int | float]:
        return {name: len(filters) for name, filters in nonzero(self.channels.layers, self.loop.model).items()}

    def parameters(self) -> tuple[int, int]:
        widths = {name: int(width) for name, width in self.layers().items()}
        return self.channels.parameters(widths), super().parameters()[1]

    def finish(self, network: nn.Module) -> nn.Module:
        """Where the last epoch's network is not the one that is used, zero filters are still there."""
        self.channels.keep_in(network, nonzero(self.channels.layers, network))
        return network


def nonzero(layers: Mapping[str, Any], model: nn.Module) -> dict[str, list[int]]:
    """The filters of these layers that are not zero, at least one each."""
    from oialr_hpo.oialr.distributed import unwrapped

    network = unwrapped(model)
    weights = {name: network.get_parameter(f"{name}.weight").detach() for name in layers}
    return {name: weight.flatten(1).any(1).nonzero().flatten().tolist() or [0] for name, weight in weights.items()}
