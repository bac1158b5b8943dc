"""DLRT: dynamical low-rank training (Schotthöfer, Zangrando, Kusch, Ceruti, Tudisco 2022, arXiv:2205.13571).

A weight W (m x n) is U S V^T from the first step on: U (m x r) and V (n x r) are orthonormal, S is r x r. One step is
the paper's Algorithm 1, three backward passes over the same batch:

- K: W = K V^T, in which K = U S takes a step of the optimizer.
- L: W = U L^T, in which L = V S^T takes one, from the same point.
- S: the new bases U' and V' are those of [U, K] and [V, L], with up to 2 r columns; at a fixed rank those of K and L.
  In them W is U' S' V'^T with S' = U'^T U S V^T V', which takes a step, and so do biases and all other parameters.
- The smallest singular values of S' are dropped, as many as have a norm within the tolerance times that of all.

K, L and S are each moved by the training's optimizer. Momentum follows the bases exactly
(`oialr_hpo.oialr.optimizer_state`); second moments such as Adam's have no exact change of basis, so that K, L and S
begin every step of theirs afresh. (In the authors' code both stay in the columns' places. On digits Adam's moments,
carried over, cost two points of accuracy.) Gradients are clipped in every pass. As in the authors' code the last layer
stays dense, and no rank falls below two. The first bases are those of the network's own initial weights. Averages of
the weights are kept in the bases that the network has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from oialr_hpo.methods import Loop, MethodSettings, Step
from oialr_hpo.methods._low_rank import LowRank

if TYPE_CHECKING:
    from torch import Tensor


class DLRT(LowRank):
    """Trains all layers that OIALR would, but the last one.

    Raises:
        ValueError: there are none.
        TypeError: the optimizer cannot follow weights whose shape changes.
    """

    name = "dlrt"

    class Settings(MethodSettings):
        """DLRT's own settings (arXiv:2205.13571, Algorithm 1)."""

        tolerance: float = Field(
            default=0.1, ge=0, lt=1, description="τ: so large a share of the norm of all singular values may be dropped"
        )
        rank: float = Field(default=0.5, gt=0, le=1, description="at the start and at most, as a share of the full one")
        adaptive: bool = Field(default=True, description="ranks go by the tolerance; otherwise they stay")

    def __init__(self, settings: Settings, loop: Loop) -> None:
        from oialr_hpo.methods._integrator import Integrator
        from oialr_hpo.oialr import plan
        from oialr_hpo.oialr.conversion import convert, planned_weights
        from oialr_hpo.oialr.distributed import process_group, unwrapped
        from oialr_hpo.oialr.optimizers import Optimizers

        super().__init__(settings, loop)
        self.network = unwrapped(loop.model)
        report = plan(self.network, keep_last=True)
        planned = {layer.name: min(layer.shape) for layer in report if not layer.reason}
        if not planned:
            raise ValueError(f"dlrt: {type(self.network).__name__} has no layer before its last to make low-rank")
        optimizers, group = Optimizers(loop.optimizer, self.name), process_group(loop.model)
        optimizers.check(planned_weights(self.network, report))
        tolerance = settings.tolerance if settings.adaptive else None
        self._full = planned
        self._layers = {
            name: Integrator(name, modules, max(1, round(settings.rank * planned[name])), tolerance, optimizers, group)
            for name, modules in convert(self.network, report, optimizers, group).items()
        }
        self._settle()

    def make_step(self, step: Step) -> None:
        layers = self._layers.values()
        self._pass(step, [layer.to_k() for layer in layers])
        self._pass(step, [layer.to_l() for layer in layers])
        for layer in layers:
            layer.to_s()
        self._pass(step)
        for layer in layers:
            layer.truncate()

    def _pass(self, step: Step, trained: Iterable[Tensor] = ()) -> None:
        """An optimizer step of these parameters or, where none are named, of all that the network has now."""
        from oialr_hpo.oialr.distributed import rebuild

        rebuild(self.loop.model)
        step.backward()
        if kept := {id(parameter) for parameter in trained}:
            for parameter in self.network.parameters():
                if id(parameter) not in kept:
                    parameter.grad = None
        step.update()

    def _settle(self) -> None:
        """Averages follow from here on by themselves, whenever they are updated."""
        from oialr_hpo.oialr.averages import follow_all

        follow_all(self.network, self.loop.averages)

    def layers(self) -> dict[str, int | float]:
        return {name: len(layer.s) for name, layer in self._layers.items()}

    def full_layers(self) -> dict[str, int | float]:
        return {**self._full}

    def parameters(self) -> tuple[int, int]:
        """U and V are trained too."""
        total, trained = super().parameters()
        return total, trained + sum(layer.u.numel() + layer.vt.numel() for layer in self._layers.values())

    def tracked(self) -> list[str]:
        return list(self._layers)

    def state_dict(self) -> dict[str, Any]:
        return {"ranks": self.layers()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, layer in self._layers.items():
            layer.take_rank(state["ranks"][name])
        self._settle()
