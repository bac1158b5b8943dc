"""Durations in optimizer steps, and the learning rate before each of them."""

from collections.abc import Callable

import torch
from timm.scheduler import CosineLRScheduler

from oialr_hpo.experiment import Schedule


def steps(duration: int | float, total: int) -> int:
    """A duration in optimizer steps: a whole number is one already, a fraction is one of `total` steps."""
    return duration if isinstance(duration, int) else round(duration * total)


def make_schedule(
    schedule: Schedule, optimizer: torch.optim.Optimizer, total: int, steps_per_epoch: int
) -> Callable[[int], None]:
    """A function that sets the optimizer's learning rate for step t = 0, 1, ..., total - 1.

    A parameter group with an `lr_scale` gets this share of it.

    Raises:
        ValueError: warm-up and cool-down leave no step between them.
    """
    if schedule.name == "halving":
        return lambda t: _set(optimizer, schedule.lr * 0.5 ** max(t // steps_per_epoch - 1, 0))
    warmup, cooldown = steps(schedule.warmup, total), steps(schedule.cooldown, total)
    if warmup + cooldown >= total:
        raise ValueError(
            f"schedule.warmup ({warmup} steps) and schedule.cooldown ({cooldown}) fill the whole run of {total} steps; "
            "shorten them, or give them as fractions of the run"
        )
    return CosineLRScheduler(
        optimizer,
        t_initial=total - cooldown,
        lr_min=schedule.min_lr,
        cycle_mul=schedule.cycle_mul,
        cycle_decay=schedule.cycle_decay,
        cycle_limit=schedule.cycle_limit,
        warmup_t=warmup,
        warmup_lr_init=schedule.warmup_lr,
        k_decay=schedule.k_decay,
        t_in_epochs=False,
    ).step_update


def rates(schedule: Schedule, total: int, steps_per_epoch: int) -> list[float]:
    """The learning rate of every step of a run, as trained."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=schedule.lr)
    set_rate = make_schedule(schedule, optimizer, total, steps_per_epoch)
    result = []
    for t in range(total):
        set_rate(t)
        result.append(optimizer.param_groups[0]["lr"])
    return result


def _set(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
