"""RigL: a sparse network from the first step on, whose connections move (Evci et al. 2020, arXiv:1911.11134)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from oialr_hpo.methods import Loop, Method, MethodSettings, Step
from oialr_hpo.section import Duration, steps

if TYPE_CHECKING:
    from torch import Tensor, nn


class RigL(Method):
    """Only some weights of a layer are there, the active ones; the others are zero and are not trained (section 3).

    Every ΔT steps, in place of the optimizer's step (Algorithm 1), the smallest active weights of each layer are
    dropped, and as many inactive ones grow where the loss is steepest. What was dropped may grow at once: it goes on
    unchanged. What is new starts from zero, and afresh in the optimizer.

    The layers are those that OIALR would convert; others, biases and norms stay dense, depthwise convolutions too, as
    in the paper. Parameters are counted without the inactive ones; where the active ones lie is not counted.

    Attributes:
        masks: the active weights of each layer, by its name: booleans in the weight's shape. Their number stays.
        steps: made so far, updates of the masks too.
    """

    name = "rigl"
    of_layers = "densities"

    class Settings(MethodSettings):
        """RigL's own settings (section 3), and the density 1 - S."""

        density: float = Field(
            default=0.2, gt=0, le=1, description="1 - S: share of the layers' weights that is active"
        )
        distribution: Literal["erk", "uniform"] = Field(
            default="erk", description="erk: denser where layers are small; uniform: all but the first, which is dense"
        )
        frequency: Duration = Field(default=100, description="ΔT: between two updates of the masks, at least 2 steps")
        drop_fraction: float = Field(
            default=0.3, ge=0, le=1, description="α: of the active weights, moved by an update; falls as a cosine"
        )
        end: Duration = Field(default=0.75, description="T_end: from here on the masks stay")

    def __init__(self, settings: Settings, loop: Loop) -> None:
        from oialr_hpo.oialr import plan
        from oialr_hpo.oialr.averages import copy_in
        from oialr_hpo.oialr.distributed import process_group, unwrapped

        super().__init__(settings, loop)
        network = unwrapped(loop.model)
        uniform = settings.distribution == "uniform"
        layers = [layer for layer in plan(network, keep_first=uniform) if not layer.reason]
        if not layers:
            raise ValueError(f"{type(network).__name__} has no layer for rigl to make sparse")
        self._frequency = max(2, steps(settings.frequency, loop.total_steps))
        self._end = steps(settings.end, loop.total_steps)
        self._group = process_group(loop.model)
        self._weights: dict[str, nn.Parameter] = {
            layer.name: network.get_parameter(layer.parameter) for layer in layers
        }
        self._averaged = {
            layer.name: [copy_in(average, network).get_parameter(layer.parameter) for average in loop.averages]
            for layer in layers
        }
        shapes = [tuple(weight.shape) for weight in self._weights.values()]
        densities = [settings.density] * len(shapes) if uniform else erk(shapes, settings.density)
        self._active = {
            name: max(1, round(density * weight.numel()))
            for density, (name, weight) in zip(densities, self._weights.items(), strict=True)
        }
        self.masks: dict[str, Tensor] = {}
        self.steps = 0
        self._start()

    def make_step(self, step: Step) -> None:
        step.backward()
        t = self.steps + 1
        if t % self._frequency == 0 and t < self._end and self._finite():
            self._move(drop_fraction(t, self.settings.drop_fraction, self._end))
            self.steps = t
            return
        for name, weight in self._weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])
        self.steps += step.update()
        for name, weight in self._weights.items():  # not every optimizer leaves what has no gradient
            weight.data.mul_(self.masks[name])

    def layers(self) -> dict[str, int | float]:
        return {name: self._active[name] / weight.numel() for name, weight in self._weights.items()}

    def full_layers(self) -> dict[str, int | float]:
        return dict.fromkeys(self._weights, 1.0)

    def parameters(self) -> tuple[int, int]:
        total, trained = super().parameters()
        inactive = sum(weight.numel() - self._active[name] for name, weight in self._weights.items())
        return total - inactive, trained - inactive

    def state_dict(self) -> dict[str, Any]:
        return {"masks": dict(self.masks), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masks = {name: state["masks"][name].to(weight.device) for name, weight in self._weights.items()}
        self.steps = state["steps"]

    def _start(self) -> None:
        """Random masks."""
        import torch

        for name, weight in self._weights.items():
            chances = torch.rand(weight.shape).to(weight.device)
            self._set_mask(name, largest(chances, self._active[name]))

    def _finite(self) -> bool:
        """Whether all gradients are: in float16 some are not, and the scale of the loss is lowered then."""
        return all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in self._weights.values())

    def _move(self, fraction: float) -> None:
        for name, weight in self._weights.items():
            if weight.grad is not None:
                number = int(fraction * self._active[name])
                self._set_mask(name, moved(self.masks[name], weight.detach(), weight.grad, number))

    def _set_mask(self, name: str, mask: Tensor) -> None:
        """Clear what is not active before and after, of the weight, of its averages and of what the optimizer knows."""
        from oialr_hpo.oialr.distributed import agreed

        mask = agreed(mask, self._group)
        stays = mask & self.masks.get(name, mask)
        weight = self._weights[name]
        for each in (weight, *self._averaged[name], *self.loop.optimizer.state.get(weight, {}).values()):
            if getattr(each, "shape", None) == weight.shape:
                each.data.mul_(stays)
        self.masks[name] = mask


def erk(shapes: Sequence[Sequence[int]], density: float) -> list[float]:
    """The densities of Erdős-Rényi-Kernel: proportional to the sum of a weight's dimensions over their product, such as
    (n_in + n_out + height + width) / (n_in n_out height width), and at most 1 (section 3, Sparsity distribution).

    Args:
        shapes: of the weights.
        density: of all of them together.
    """
    sizes = [math.prod(shape) for shape in shapes]
    dense: set[int] = set()
    while True:
        sparse = [i for i in range(len(shapes)) if i not in dense]
        left = density * sum(sizes) - sum(sizes[i] for i in dense)
        scale = left / sum(sum(shapes[i]) for i in sparse) if sparse else 0.0
        found = {i: scale * sum(shapes[i]) / sizes[i] for i in sparse}
        if all(each <= 1 for each in found.values()):
            return [found.get(i, 1.0) for i in range(len(shapes))]
        dense |= {i for i, each in found.items() if each > 1}


def drop_fraction(t: int, alpha: float, end: int) -> float:
    """The share of the active weights that step `t` moves, α/2 (1 + cos(t π / T_end)) (section 3, Update schedule)."""
    return alpha / 2 * (1 + math.cos(t * math.pi / end))


def moved(mask: Tensor, weight: Tensor, gradient: Tensor, number: int) -> Tensor:
    """The mask without the `number` smallest active weights, and with as many of the largest gradients among those that
    are inactive then (section 3, Drop and Grow). Of equal ones the first is kept, and grows."""
    kept = largest(weight.abs().masked_fill(~mask, -1), int(mask.sum()) - number)
    return kept | largest(gradient.abs().masked_fill(kept, -1), number)


def largest(values: Tensor, number: int) -> Tensor:
    """Where the `number` largest values are, the first of equal ones."""
    chosen = values.flatten().argsort(stable=True, descending=True)[:number]
    return values.new_zeros(values.numel()).bool().index_fill(0, chosen, True).view(values.shape)
