"""The learning rate of every optimizer step.

A schedule is a function that gives it for a step: one of this file, or one's own as `package.module:function`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from oialr_hpo.extension import resolve
from oialr_hpo.mistake import described, hint
from oialr_hpo.section import Duration, Section, steps

if TYPE_CHECKING:
    import torch


class Schedule(Section):
    """The learning rate, set before every optimizer step.

    `cosine` is timm's CosineLRScheduler with its knobs; `min_lr` above `lr` makes the rate rise.
    `halving` multiplies by 0.5 after every epoch but the first (Autoformer).
    """

    name: str = Field("cosine", description="cosine, halving, or package.module:function")
    lr: float = Field(gt=0, description="the peak, where cosine starts after the warm-up")
    min_lr: float = Field(0.0, ge=0, description="where cosine ends; above lr the rate rises")
    warmup_lr: float = Field(0.0, ge=0, description="where the warm-up starts")
    warmup: Duration = Field(0, description="from warmup_lr to lr")
    cooldown: Duration = Field(0, description="at min_lr, at the end")
    cycle_mul: float = Field(1.0, gt=0, description="length of a cycle, as a multiple of the one before")
    cycle_decay: float = Field(1.0, gt=0, description="peak of a cycle, as a multiple of the one before")
    cycle_limit: int = Field(1, ge=1, description="cycles at most")
    k_decay: float = Field(1.0, gt=0, description="exponent of the elapsed share; below 1 the rate falls sooner")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name in SCHEDULES or ":" in name:
            return name
        known = ", ".join(SCHEDULES)
        raise ValueError(f"no schedule {name!r};{hint(name, SCHEDULES)} choose {known}, or package.module:function")


def cosine(step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """A warm-up, half a cosine from `lr` to `min_lr` or several, and a cool-down: timm's CosineLRScheduler.

    Raises:
        ValueError: warm-up and cool-down leave no step between them.
    """
    warmup, cooldown = steps(schedule.warmup, total), steps(schedule.cooldown, total)
    if warmup + cooldown >= total:
        raise ValueError(
            f"schedule.warmup ({warmup} steps) and schedule.cooldown ({cooldown}) fill the whole run of {total} steps; "
            "shorten them, or give them as fractions of the run"
        )
    if step < warmup:
        return schedule.warmup_lr + step * ((schedule.lr - schedule.warmup_lr) / warmup)
    length, growth, k = total - cooldown, schedule.cycle_mul, schedule.k_decay
    if growth == 1:
        cycle, elapsed, cycle_length = step // length, float(step % length), float(length)
    else:
        cycle = math.floor(math.log(1 - step / length * (1 - growth), growth))
        elapsed, cycle_length = step - (1 - growth**cycle) / (1 - growth) * length, growth**cycle * length
    if cycle >= schedule.cycle_limit:
        return schedule.min_lr
    peak = schedule.lr * schedule.cycle_decay**cycle
    return schedule.min_lr + 0.5 * (peak - schedule.min_lr) * (1 + math.cos(math.pi * elapsed**k / cycle_length**k))


def halving(step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    return schedule.lr * 0.5 ** max(step // steps_per_epoch - 1, 0)


Rate = Callable[[int, int, int, Schedule], float]
"""Called with a step 0, 1, ..., total - 1, the total, the steps of an epoch, and the section `schedule`."""
SCHEDULES: dict[str, Rate] = {"cosine": cosine, "halving": halving}


def load_rate(name: str) -> Rate:
    """The function of a schedule.

    Raises:
        LookupError: there is none, or it cannot be called as one.
    """
    if name in SCHEDULES:
        return SCHEDULES[name]
    rate: Rate = resolve(name, "schedule", SCHEDULES)
    try:
        if not callable(rate):
            raise TypeError(f"it is no function but {type(rate).__name__}")
        inspect.signature(rate).bind(0, 1, 1, None)
    except TypeError as error:
        wanted = "write rate(step, total, steps_per_epoch, schedule)"
        raise LookupError(f"{name!r} is no schedule: {error}; {wanted}") from None
    return rate


def make_schedule(
    schedule: Schedule, optimizer: torch.optim.Optimizer, total: int, steps_per_epoch: int
) -> Callable[[int], None]:
    """A function that sets the optimizer's learning rate for step t = 0, 1, ..., total - 1.

    A parameter group with an `lr_scale` gets this share of it.

    Raises:
        LookupError: there is no such schedule.
        ValueError: it has no rate for the first step or the last one.
    """
    rate = load_rate(schedule.name)
    for step in (0, total - 1):
        _checked(rate, step, total, steps_per_epoch, schedule)

    def set_rate(step: int) -> None:
        value = _checked(rate, step, total, steps_per_epoch, schedule)
        for group in optimizer.param_groups:
            group["lr"] = value * group.get("lr_scale", 1.0)

    return set_rate


def rates(schedule: Schedule, total: int, steps_per_epoch: int) -> list[float]:
    """The learning rate of every step of a run, as trained.

    Raises:
        LookupError: there is no such schedule.
        ValueError: it has no rate for some step.
    """
    rate = load_rate(schedule.name)
    return [_checked(rate, step, total, steps_per_epoch, schedule) for step in range(total)]


def _checked(rate: Rate, step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    if schedule.name in SCHEDULES:
        return rate(step, total, steps_per_epoch, schedule)
    try:
        value = rate(step, total, steps_per_epoch, schedule)
    except Exception as error:
        raise ValueError(f"schedule.name: {schedule.name}: step {step} of {total}: {described(error)}") from error
    if not isinstance(value, Real) or not 0 <= value < math.inf:
        found = f"{value!r} for step {step} of {total}"
        raise ValueError(f"schedule.name: {schedule.name} gives {found}; give a finite number, at least 0")
    return float(value)
