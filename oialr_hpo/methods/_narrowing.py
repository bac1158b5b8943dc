"""A network that is whole at first, and from which channels are removed for good while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oialr_hpo.methods import Loop, Method, Step

if TYPE_CHECKING:
    from torch import Tensor, nn


class Narrowing(Method):
    """Removes output channels of convolutions that only other layers read.

    Attributes:
        channels: of the network, which removes them.
        steps: made so far.
    """

    of_layers = "widths"

    def __init__(self, settings: Any, loop: Loop) -> None:
        from oialr_hpo.methods._channels import Channels

        super().__init__(settings, loop)
        self.channels = Channels(loop, self.name)
        self.steps = 0

    def make_step(self, step: Step) -> None:
        step.backward()
        if step.update():
            self.steps += 1
            self.narrow()

    def narrow(self) -> None:
        """Remove what is to go after this step of the optimizer; a method with steps of its own makes it there."""

    def layers(self) -> dict[str, int | float]:
        full, widths = self.channels.full_widths(), self.channels.widths()
        return {name: width for name, width in widths.items() if width < full[name]}

    def full_layers(self) -> dict[str, int | float]:
        return {**self.channels.full_widths()}

    def tracked(self) -> list[str]:
        return self.channels.tracked(super().tracked())

    @classmethod
    def load_weights(cls, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
        from oialr_hpo.methods._channels import load_narrow

        return load_narrow(network, weights)

    def state_dict(self) -> dict[str, Any]:
        return {"channels": self.channels.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.channels.load_state_dict(state["channels"])
        self.steps = state["steps"]
