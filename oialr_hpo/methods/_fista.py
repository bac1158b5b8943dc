"""FISTA, proximal gradients with momentum, for GAL's masks (Beck and Teboulle 2009; arXiv:1903.09291, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter


class Masks:
    """Soft masks m >= 0 that minimise H(m) + λ |m|_1, whose gradient of H is to be taken at the points y:

        m(k+1) = max(0, prox(y(k+1) - η ∂H/∂y)),  prox(z) = sign(z) max(0, |z| - η λ)
        y(k+1) = max(0, m(k) + (α(k) - 1) / α(k+1) (m(k) - m(k-1))),  α(k+1) = (1 + sqrt(1 + 4 α(k)²)) / 2,  α(1) = 1

    As in the authors' code no mask is negative; here no point is either, so that a mask may as well be a factor before
    a pooling.

    Attributes:
        values: m, by name.
        points: y, by name.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = {name: value.detach().clamp(min=0) for name, value in values.items()}
        self.points = {name: Parameter(value.clone()) for name, value in self.values.items()}
        self._alpha = 1.0

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], eta: float, penalty: float) -> None:
        """From the gradients at the points, with the learning rate η and the penalty λ, to the next masks and points.

        Masks whose gradient is missing stay.
        """
        alpha = _following(self._alpha)
        momentum = (alpha - 1) / _following(alpha)
        for name, gradient in gradients.items():
            before, point = self.values[name], self.points[name]
            moved = point - eta * gradient
            mask = (moved.sign() * (moved.abs() - eta * penalty).clamp(min=0)).clamp(min=0)
            self.values[name] = mask
            point.copy_((mask + momentum * (mask - before)).clamp(min=0))
        self._alpha = alpha

    @torch.no_grad()
    def restart(self) -> None:
        """Without momentum: α is 1 again."""
        self._alpha = 1.0
        for name, point in self.points.items():
            point.copy_(self.values[name])

    def state_dict(self) -> dict[str, Any]:
        points = {name: point.detach() for name, point in self.points.items()}
        return {"values": dict(self.values), "points": points, "alpha": self._alpha}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._alpha = state["alpha"]
        for name, point in self.points.items():
            point.copy_(state["points"][name])
            self.values[name] = state["values"][name].to(point.device)


def _following(alpha: float) -> float:
    return (1 + math.sqrt(1 + 4 * alpha**2)) / 2
