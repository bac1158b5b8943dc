"""An optimizer and a schedule outside the package."""

from collections.abc import Iterable
from typing import Any

import torch

from oialr_hpo.experiment import Schedule


class SignDescent(torch.optim.Optimizer):
    """Steps of one length in the direction of the mean gradient's signs (Signum)."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float, momentum: float, scale: float = 1.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "scale": scale})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("exp_avg", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(mean.sign(), alpha=-group["lr"] * group["scale"])


def falling(step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """From `lr` straight to `min_lr`, lower with every epoch."""
    epoch, epochs = step // steps_per_epoch, total // steps_per_epoch
    return schedule.lr + (schedule.min_lr - schedule.lr) * epoch / epochs


def of_epochs(epoch: int) -> float:
    return 1 / (1 + epoch)


def endless(step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    return schedule.lr / (total - 1 - step)


def negative(step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    return schedule.lr - step


class Unlike(torch.optim.SGD):
    def __init__(self, params: Iterable[Any], rate: float):
        super().__init__(params, lr=rate)


NUMBER = 0.5
