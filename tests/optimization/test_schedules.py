"""The learning rate of every step: by name, as timm has it, or by a function of one's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler, create_scheduler_v2

from oialr_hpo.experiment import Schedule, load
from oialr_hpo.optimization import make_schedule, rates
from oialr_hpo.section import steps
from tests.own_optimization import falling

OWN = "tests.own_optimization"


def test_durations_are_steps_or_fractions() -> None:
    assert steps(500, 14700) == 500
    assert steps(0.033333333, 14700) == 490
    assert steps(0, 100) == steps(0.0, 100) == 0


def test_the_cosine_is_that_of_timms_training_script() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        num_epochs=290,
        warmup_epochs=10,
        cooldown_epochs=10,
        warmup_lr=1e-5,
        min_lr=1e-5,
        k_decay=0.34,
        step_on_epochs=False,
        updates_per_epoch=49,
    )
    expected = []
    for t in range(epochs * 49):
        scheduler.step_update(t)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(load("vit_cifar").schedule, 300 * 49, 49) == pytest.approx(expected, rel=1e-12)


def test_a_minimum_above_the_peak_makes_the_rate_rise() -> None:
    rising = rates(Schedule(lr=3e-4, min_lr=8e-4, warmup_lr=1e-4, warmup=10, k_decay=0.34), 100, 10)
    assert rising == sorted(rising) and rising[0] == 1e-4 and rising[-1] > 7e-4


def test_halving_starts_after_the_second_epoch() -> None:
    assert rates(Schedule(name="halving", lr=1e-4), 8, 2) == [1e-4] * 4 + [5e-5] * 2 + [2.5e-5] * 2


shares = st.floats(0, 0.4)
factors = st.floats(0.2, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 80), st.floats(0.01, 1), shares, shares, shares, shares, st.sampled_from([1.0, 1.7]), factors,
       st.integers(1, 3), factors)  # fmt: skip
def test_the_cosine_is_timms_to_the_bit(
    total: int, lr: float, min_lr: float, warmup_lr: float, warmup: float, cooldown: float, cycle_mul: float,
    cycle_decay: float, cycle_limit: int, k_decay: float,
) -> None:  # fmt: skip
    knobs = {"cycle_mul": cycle_mul, "cycle_decay": cycle_decay, "cycle_limit": cycle_limit, "k_decay": k_decay}
    schedule = Schedule(lr=lr, min_lr=min_lr, warmup_lr=warmup_lr, warmup=warmup, cooldown=cooldown, **knobs)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=total - steps(cooldown, total),
        lr_min=min_lr,
        warmup_t=steps(warmup, total),
        warmup_lr_init=warmup_lr,
        t_in_epochs=False,
        **knobs,
    )
    expected = []
    for step in range(total):
        scheduler.step_update(step)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(schedule, total, 10) == expected


def test_a_warm_up_and_a_cool_down_leave_steps_between_them() -> None:
    with pytest.raises(
        ValueError, match=r"schedule.warmup \(5 steps\) and schedule.cooldown \(5\) fill the whole run of 10"
    ):
        rates(Schedule(lr=1.0, warmup=5, cooldown=0.5), 10, 5)


def test_a_function_of_ones_own_is_called_for_every_step() -> None:
    schedule = Schedule(name=f"{OWN}:falling", lr=0.5, min_lr=0.1)
    assert rates(schedule, 6, 2) == [falling(step, 6, 2, schedule) for step in range(6)]
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr_scale": 0.5}, {"params": [torch.zeros(1)]}], lr=1.0)
    make_schedule(schedule, optimizer, 6, 2)(4)
    assert [group["lr"] for group in optimizer.param_groups] == [
        falling(4, 6, 2, schedule) * 0.5,
        falling(4, 6, 2, schedule),
    ]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("endless", f"schedule.name: {OWN}:endless: step 9 of 10: ZeroDivisionError: float division by zero"),
        ("negative", f"schedule.name: {OWN}:negative gives -8.0 for step 9 of 10; give a finite number, at least 0"),
    ],
)
def test_a_rate_that_is_none_is_found_before_the_first_step(name: str, word: str) -> None:
    with pytest.raises(ValueError) as error:
        make_schedule(Schedule(name=f"{OWN}:{name}", lr=1.0), torch.optim.SGD([torch.zeros(1)], lr=1.0), 10, 5)
    assert str(error.value).startswith(word)
