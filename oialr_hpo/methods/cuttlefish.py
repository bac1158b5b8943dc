"""Cuttlefish: low-rank training without tuning (Wang, Agarwal, U-chupala, Tanaka, Xing, Papailiopoulos 2023,
arXiv:2305.02538).

A network is trained at full rank until the stable ranks ‖W‖_F² / ‖W‖_2² of its layers stay (Algorithm 1). Then each
weight becomes (U √Σ)(√Σ Vᵀ) of its singular value decomposition, cut to the scaled stable rank: the stable rank times
ξ = min(m, n) / (the stable rank at the start), rounded up. Both factors are trained; Frobenius decay, of ‖U Vᵀ‖_F², is
in the place of their weight decay. The learning rate goes on; the optimizer knows nothing of the new factors yet, and
averages of the weights begin anew with them, as in the authors' code.

What the paper leaves open, or needs measured time for, is decided here:

- The curve of a layer's stable ranks, not scaled, stays where it rises or falls by ε an epoch at most, on the average
  over a window of a twentieth of the run (the authors' 15 of 300 epochs), at least two epochs. That is asked of all
  layers at once.
- Where they have not stayed by half of the run, it switches then, so that half of the steps train what it leads to.
- Which layers become low-rank must not depend on how fast a machine is: all that OIALR would convert but the first and
  the last, where r (m + n) < m n. The others stay as they are. (The paper times stacks of layers, and leaves the first
  K as they are.)
- Where an optimizer adds weight decay to the gradient, as SGD does, it gets that of the Frobenius decay, which is
  clipped with it; where it shrinks weights, as AdamW does, the factors move by that times the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from oialr_hpo.methods import Loop, MethodSettings, Step
from oialr_hpo.methods._low_rank import LowRank

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.nn.parameter import Parameter

    from oialr_hpo.oialr.merging import Thin

COUPLED = ("SGD", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD")
"""Of torch: those that add weight decay to the gradient, unless they are told otherwise."""


class Cuttlefish(LowRank):
    """Attributes:
        steps: made so far.
        curves: the stable ranks of each layer, by its name: at the start and after every epoch up to the switch.
        switched: whether the network is as small as it gets.

    Raises:
        ValueError: the network has no layer between its first and its last.
        TypeError: the optimizer cannot follow weights that are replaced.
    """

    name = "cuttlefish"

    class Settings(MethodSettings):
        """Cuttlefish's only setting, which the paper does not tune (section 3)."""

        epsilon: float = Field(
            default=0.1, ge=0, description="ε: ranks by which stable ranks may still change in an epoch at the switch"
        )

    def __init__(self, settings: Settings, loop: Loop) -> None:
        from oialr_hpo.methods._factors import Factors
        from oialr_hpo.oialr.distributed import process_group

        super().__init__(settings, loop)
        self._factors = Factors(self.name, loop, keep_first=True, keep_last=True)
        self._group = process_group(loop.model)
        self._window = max(2, round(loop.total_steps / loop.steps_per_epoch / 20))
        self.steps, self.switched = 0, False
        self.curves: dict[str, list[float]] = {name: [] for name in self._factors.weights}
        self._measure()

    def make_step(self, step: Step) -> None:
        step.backward()
        decayed = self._frobenius_decay()
        if not step.update():
            return
        for parameter, change in decayed:
            parameter.data.sub_(change)
        self.steps += 1
        if not self.switched:
            self._look()

    def _look(self) -> None:
        latest = self.steps == max(1, self.loop.total_steps // 2)
        if latest or self.steps % self.loop.steps_per_epoch == 0:
            self._measure()
            if latest or all(stays(curve, self._window, self.settings.epsilon) for curve in self.curves.values()):
                self._switch()

    def _measure(self) -> None:
        import torch

        from oialr_hpo.oialr.distributed import agreed

        weights = self._factors.weights.values()
        ranks = agreed(torch.stack([stable_rank(weight.detach().flatten(1)) for weight in weights]), self._group)
        for curve, rank in zip(self.curves.values(), ranks.tolist(), strict=True):
            curve.append(rank)

    def _switch(self) -> None:
        from oialr_hpo.oialr.decomposition import svd

        factors = {}
        for name, weight in self._factors.weights.items():
            matrix, curve = weight.detach().flatten(1), self.curves[name]
            m, n = matrix.shape
            u, values, vt = svd(matrix, name, self._group)
            r = scaled_rank(curve[-1], curve[0], min(m, n))
            if r * (m + n) < m * n:
                root = values[:r].sqrt()
                factors[name] = u[:, :r] * root, root[:, None] * vt[:r]
        self._factors.replace(factors)
        self._settle()

    def _settle(self) -> None:
        """From here on Frobenius decay is in the place of the factors' weight decay."""
        self.switched = True
        optimizers = self._factors.optimizers
        optimizers.separate(each for thin in self._factors.thin.values() for each in (_of(thin.down), _of(thin.up)))
        for group in optimizers.groups():
            if group.get("low_rank"):
                group["frobenius_decay"], group["weight_decay"] = group["weight_decay"], 0.0

    def _frobenius_decay(self) -> list[tuple[Parameter, Tensor]]:
        """Adds it to the gradients, or tells by how much it moves which factors."""
        optimizers = self._factors.optimizers
        groups = {id(each): group for group in optimizers.groups() for each in group["params"]}
        moved = []
        for thin in self._factors.thin.values():
            down, up = _of(thin.down), _of(thin.up)
            group = groups.get(id(down), {})
            if not (decay := group.get("frobenius_decay", 0.0)):
                continue
            for parameter, gradient in zip((down, up), frobenius_gradients(thin), strict=True):
                if not self._adds_decay(group):
                    moved.append((parameter, gradient * (decay * group["lr"])))
                elif parameter.grad is not None:
                    parameter.grad.add_(gradient, alpha=decay)
        return moved

    def _adds_decay(self, group: Mapping[str, Any]) -> bool:
        import torch

        kinds = tuple(getattr(torch.optim, name) for name in COUPLED)
        optimizer = getattr(self.loop.optimizer, "_base_optimizer", self.loop.optimizer)  # inside timm's Lookahead
        return isinstance(optimizer, kinds) and not group.get("decoupled_weight_decay")

    def layers(self) -> dict[str, int | float]:
        return {**self._factors.ranks}

    def full_layers(self) -> dict[str, int | float]:
        return {**self._factors.full_ranks}

    def state_dict(self) -> dict[str, Any]:
        ranks = self._factors.ranks if self.switched else None
        return {"steps": self.steps, "curves": {name: [*curve] for name, curve in self.curves.items()}, "ranks": ranks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.curves = state["steps"], {name: [*curve] for name, curve in state["curves"].items()}
        if state["ranks"] is not None:
            self._factors.take_ranks(state["ranks"])
            self._settle()


def stable_rank(matrix: Tensor) -> Tensor:
    """‖W‖_F² / ‖W‖_2² as a float64 scalar: the trace of the smaller Gram matrix over its largest eigenvalue, a tenth of
    the work of singular values. (Of a random W the largest ones lie so close together that fifty steps of the power
    iteration are off by two per cent.) That of zeros is the full rank, as no direction is preferred; that of anything
    infinite is NaN."""
    import torch

    matrix = matrix.float() if matrix.dtype != torch.float64 else matrix
    gram = (matrix @ matrix.t() if len(matrix) <= matrix.shape[1] else matrix.t() @ matrix).double()
    if not gram.isfinite().all():
        return gram.new_tensor(math.nan)
    largest = torch.linalg.eigvalsh(gram)[-1]
    return gram.trace() / largest if largest > 0 else gram.new_tensor(float(len(gram)))


def stays(curve: Sequence[float], window: int, epsilon: float) -> bool:
    """Whether a curve's mean derivative over its last `window` epochs is at most `epsilon` (Algorithm 1)."""
    return len(curve) > window and abs(curve[-1] - curve[-1 - window]) <= epsilon * window


def scaled_rank(rank: float, at_start: float, full: int) -> int:
    """The rank of the factors: ξ times the stable rank, where ξ makes that of the start the full one (section 3)."""
    return max(1, min(full, math.ceil(full * rank / at_start)))


def frobenius_gradients(thin: Thin) -> tuple[Tensor, Tensor]:
    """The gradients of ‖W‖_F² / 2 with respect to both weights, `down` and `up`, whose product is W."""
    import torch

    from oialr_hpo.oialr.merging import TRANSPOSED

    with torch.no_grad():
        down, up = _of(thin.down).flatten(1), _of(thin.up).flatten(1)  # r x ..., ... x r
        up = up.t() if isinstance(thin.up, TRANSPOSED) else up
        of_down, of_up = (up.t() @ up) @ down, up @ (down @ down.t())
        of_up = of_up.t() if isinstance(thin.up, TRANSPOSED) else of_up
        return of_down.reshape(_of(thin.down).shape), of_up.reshape(_of(thin.up).shape)


def _of(layer: nn.Module) -> Parameter:
    return layer.get_parameter("weight")
