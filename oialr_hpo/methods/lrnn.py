"""LRNN: learning the rank of each layer (Idelbayev and Carreira-Perpiñán, CVPR 2020, pages 8049-8059).

A network is trained as it is, to begin with (the reference). Then every weight W (m x n) gets a low-rank twin Θ, and
the learning-compression algorithm solves min L(W) + λ Σ C(r) under W = Θ, of rank r, by the augmented Lagrangian
L(W) + λ Σ C(r) + μ/2 Σ ||W - Θ - Λ/μ||², as the authors' code does (UCMerced-ML/LC-model-compression):

- C step: Θ is W - Λ/μ, cut to the rank r that minimises λ C(r) + μ/2 ||W - Λ/μ - Θ||², found by trying all. The squared
  distance is a share of ||W - Λ/μ||², in that code for all but its smallest network. Then Λ becomes Λ - μ (W - Θ).
- L step: the training's optimizer makes so many steps on loss and penalty, whose gradient in W is μ (W - Θ) - Λ. Both
  are clipped together; the loss that is recorded is without the penalty.
- μ is μ_0 a^k. The run goes C (k = 0), L and C (k = 1), L and C (k = 2), ..., with Λ = 0 in the first C step.

In the end Θ = A B, with √S in each, takes the place of W: two layers, which are fine-tuned. A layer that would have no
fewer parameters by that, r (m + n) >= m n, goes on as it is. Of a convolution m are its output channels (scheme 1 of
the paper's two).

C(r) is r (m + n), times the layer's number of positions where FLOPs count. The authors count millions, so that a λ fits
one network (2.5e-5 to 0.03 on CIFAR-10); here C is a share of what all these layers cost when dense, and λ the loss
that all of this is worth. The authors take 30 to 60 L steps of 15 to 30 epochs each, with μ_0 from 2e-5 to 1e-3 and a
from 1.1 to 1.25; the defaults are for a single training, where W cannot follow Θ within shorter L steps, and Λ would
keep ranks high. A rank is at least 1, not 0 as in the paper: what comes behind an output that is always zero does not
learn, and torch has no convolution without channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from oialr_hpo.methods import Loop, MethodSettings, Step
from oialr_hpo.methods._low_rank import LowRank
from oialr_hpo.section import Duration, steps

if TYPE_CHECKING:
    from torch import Tensor, nn


class LRNN(LowRank):
    """Compresses all layers that OIALR would, the last one too, but none inside recurrent layers.

    Attributes:
        steps: of the optimizer so far.
        made: C steps so far.
        theta, multipliers: Θ and Λ by a layer's name, in its weight's shape, from the first C step to the last.
        ranks: of Θ, once the last C step is made.

    Raises:
        ValueError: there is no such layer, or the run is too short.
        TypeError: the optimizer cannot follow weights whose shape changes.
    """

    name = "lrnn"

    class Settings(MethodSettings):
        """LRNN's own settings (CVPR 2020), with the paper's symbols."""

        delay: Duration = Field(default=0.333333333, description="of the reference training, before the first C step")
        compression: Duration = Field(
            default=0.333333333, description="of all L steps together; the rest of the run is fine-tuning"
        )
        iterations: int = Field(default=6, ge=1, description="L steps, equally long; a C step follows each")
        cost: Literal["parameters", "flops"] = Field(default="parameters", description="C: what ranks cost")
        cost_weight: float = Field(
            default=0.3, ge=0, description="λ: the loss that all these layers, when dense, are worth by their cost"
        )
        penalty: float = Field(default=0.01, gt=0, description="μ_0: of the weights' distance from low rank")
        growth: float = Field(default=2.0, ge=1, description="a: factor of the penalty from one C step to the next")

        def change_over(self, total_steps: int) -> int:
            return steps(self.delay, total_steps) + max(1, steps(self.compression, total_steps))

    def __init__(self, settings: Settings, loop: Loop) -> None:
        from oialr_hpo.methods._factors import Factors
        from oialr_hpo.oialr.distributed import process_group

        super().__init__(settings, loop)
        self._factors = Factors(self.name, loop)
        self._weights: dict[str, nn.Parameter] = self._factors.weights
        self._shapes = {name: (len(weight), weight[0].numel()) for name, weight in self._weights.items()}
        self._prices = self._price_of_a_rank()
        self._group = process_group(loop.model)
        begin, end = steps(settings.delay, loop.total_steps), settings.change_over(loop.total_steps)
        if end > loop.total_steps:
            raise ValueError(f"lrnn: delay and compression take {end} of {loop.total_steps} steps; make one shorter")
        count = min(settings.iterations, end - begin)
        self._c_steps = [begin + k * (end - begin) // count for k in range(count + 1)]
        self.steps = self.made = 0
        self.theta: dict[str, Tensor] = {}
        self.multipliers: dict[str, Tensor] = {}
        self.ranks: dict[str, int] = {}

    def make_step(self, step: Step) -> None:
        self._compress_if_due()
        step.backward()
        self._pull()
        self.steps += step.update()
        self._compress_if_due()

    def layers(self) -> dict[str, int | float]:
        return {name: rank for name, rank in self.ranks.items() if is_smaller(rank, *self._shapes[name])}

    def full_layers(self) -> dict[str, int | float]:
        return {**self._factors.full_ranks}

    def tracked(self) -> list[str]:
        return list(self._weights)

    def state_dict(self) -> dict[str, Any]:
        twins = {"theta": dict(self.theta), "multipliers": dict(self.multipliers)}
        return {"steps": self.steps, "made": self.made, "ranks": dict(self.ranks), **twins}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.made, self.ranks = state["steps"], state["made"], dict(state["ranks"])
        self.theta, self.multipliers = (
            {name: value.to(self._weights[name].device) for name, value in state[twin].items()}
            for twin in ("theta", "multipliers")
        )
        if self.ranks:
            self._factors.take_ranks({name: int(rank) for name, rank in self.layers().items()})

    def _price_of_a_rank(self) -> dict[str, float]:
        """λ C(1) of each layer."""
        positions = dict.fromkeys(self._shapes, 1.0)
        if self.settings.cost == "flops":
            from oialr_hpo.methods._positions import positions_of

            positions = positions_of(self.loop, positions)
        dense = sum(positions[name] * m * n for name, (m, n) in self._shapes.items())
        return {
            name: self.settings.cost_weight * positions[name] * (m + n) / dense for name, (m, n) in self._shapes.items()
        }

    def _mu(self) -> float:
        """Of the next C step, and of the L step before it."""
        mu: float = self.settings.penalty * self.settings.growth**self.made
        return mu

    def _pull(self) -> None:
        """Add the gradient of the penalty to that of the loss."""
        for name, theta in self.theta.items():
            weight = self._weights[name]
            gradient = self._mu() * (weight.detach() - theta) - self.multipliers[name]
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)

    def _compress_if_due(self) -> None:
        """Make the C step of this moment, if there is one; with the last one the network gets the factors."""
        if self.steps not in self._c_steps[self.made : self.made + 1]:
            return
        cut = {name: self._c_step(name) for name in self._weights}
        self.made += 1
        if self.made == len(self._c_steps):
            self.ranks = {name: len(b) for name, (_, b) in cut.items()}
            self.theta, self.multipliers = {}, {}
            self._factors.replace({name: cut[name] for name in self.layers()})

    def _c_step(self, name: str) -> tuple[Tensor, Tensor]:
        """Θ and Λ of a layer anew; returns Θ as A (m x r) and B (r x n)."""
        import torch

        from oialr_hpo.oialr.decomposition import exactly, svd

        with exactly():
            mu, weight = self._mu(), self._weights[name]
            multipliers = self.multipliers.get(name, torch.zeros_like(weight))
            u, values, vt = svd((weight - multipliers / mu).flatten(1), name, self._group)
            rank = best_rank(values.tolist(), self._prices[name], mu)
            root = values[:rank].sqrt()
            a, b = u[:, :rank] * root, root.unsqueeze(1) * vt[:rank]
            self.theta[name] = (a @ b).to(weight.dtype).view_as(weight)
            self.multipliers[name] = multipliers - mu * (weight - self.theta[name])
        return a, b


def best_rank(values: Sequence[float], price: float, mu: float) -> int:
    """The rank r >= 1 that minimises λ C(r) + μ/2 ||W - Θ||² / ||W||², with Θ cut from W; of equal ones the smallest.

    Args:
        values: singular values of W, in descending order.
        price: λ C(1), as C is proportional to r.
    """
    dropped = [0.0]  # the sum of all squares but the first r, from the highest r to 0
    for value in reversed(values):
        dropped.append(dropped[-1] + value * value)
    dropped.reverse()
    whole = dropped[0] or 1.0
    return min(range(1, len(values) + 1), key=lambda r: price * r + mu / 2 * dropped[r] / whole)


def is_smaller(rank: int, m: int, n: int) -> bool:
    """Whether two matrices of this rank have fewer parameters than one."""
    return rank * (m + n) < m * n
