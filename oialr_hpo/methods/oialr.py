"""OIALR in the training loop; what it does is in the library, `oialr_hpo.oialr`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from oialr_hpo.methods import Loop, MethodSettings, Step
from oialr_hpo.methods._low_rank import LowRank
from oialr_hpo.section import Duration, steps


class OIALR(LowRank):
    """Attributes:
    oialr: the library's, which changes the network.
    """

    name = "oialr"

    class Settings(MethodSettings):
        """OIALR's own settings (paper, section 4), d, ν, β, α in this order."""

        delay: Duration = Field(default=0.333333333, description="d: at full rank, before the change-over")
        frequency: Duration = Field(default=0.034, description="ν: between two updates")
        cutoff: float = Field(
            default=0.1, ge=0, lt=1, description="β: singular values below this share of the largest one are dropped"
        )
        step_fraction: float = Field(
            default=0.1, gt=0, le=1, description="α: every update reaches so large a share of the layers more"
        )
        first_cutoff: float = Field(
            default=0.0,
            ge=0,
            lt=1,
            description="a cut-off like β, of all layers at the change-over; 0: none, as in the paper",
        )
        energy: float = Field(
            default=1.0,
            gt=0,
            le=1,
            description="no more singular values are kept than hold this share of all their squares",
        )
        rank_multiple: int = Field(default=1, ge=1, description="ranks are rounded up to a multiple of it")
        keep_first: bool = Field(default=False, description="the first layer stays dense")
        keep_last: bool = Field(default=False, description="the last layer stays dense")

        def change_over(self, total_steps: int) -> int:
            return steps(self.delay, total_steps)

    def __init__(self, settings: Settings, loop: Loop) -> None:
        from oialr_hpo import oialr

        super().__init__(settings, loop)
        self.oialr = oialr.OIALR.for_run(
            loop.model,
            loop.optimizer,
            loop.total_steps,
            delay=settings.delay,
            frequency=settings.frequency,
            cutoff=settings.cutoff,
            step_fraction=settings.step_fraction,
            first_cutoff=settings.first_cutoff,
            energy=settings.energy,
            rank_multiple=settings.rank_multiple,
            keep_first=settings.keep_first,
            keep_last=settings.keep_last,
            averages=loop.averages,
        )

    def make_step(self, step: Step) -> None:
        step.backward()
        if step.update():
            self.oialr.step()

    def layers(self) -> dict[str, int | float]:
        return {**self.oialr.ranks}

    def full_layers(self) -> dict[str, int | float]:
        return {layer.name: min(layer.shape) for layer in self.oialr.report if not layer.reason}

    def tracked(self) -> list[str]:
        return [layer.name for layer in self.oialr.report if not layer.reason]

    def state_dict(self) -> dict[str, Any]:
        return self.oialr.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.oialr.load_state_dict(state)
