"""Which trials are stopped: shares of the run, phases, and the window after the change-over."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.engines.early_stopping import Point, Rungs, curve, due, stopped
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.runs.trial import Role, Trial

EPOCHS = 20
DEFAULTS = load("vit_digits", [f"training.epochs={EPOCHS}"])


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    changes = [f"training.epochs={EPOCHS}", "early_stopping={rungs: [0.25, 0.5], recovery: 0.2, factor: 2, minimum: 3}"]
    return load("vit_digits", changes)


def trial(number: int, errors: Sequence[float], delay: int = EPOCHS) -> Trial:
    """Low-rank after `delay` epochs, with a tenth of the parameters."""
    made = Trial(number, Role.PROPOSAL, {}, seed=0, worker=0)
    for epoch, error in enumerate(errors, 1):
        low_rank = epoch > delay
        ranks = {"layer": 3} if low_rank else {}
        made.add({"epoch": epoch, "error": error, "trainable_percent": 10 if low_rank else 100, "ranks": ranks})
    return made


def judged_at(experiment: Experiment, delay: int) -> list[int]:
    points = curve(trial(0, [0.5] * EPOCHS, delay), experiment)
    return [epoch for epoch in range(1, EPOCHS + 1) if due(points[:epoch], experiment.early_stopping)]


def stops(experiment: Experiment, others: Sequence[Trial], running: Trial) -> bool:
    rungs = Rungs(experiment, others)
    for point in curve(running, experiment):
        rungs.report(running.number, point)
    return rungs.stops(running.number)


def test_a_trial_that_is_scored_at_its_end_only_tells_how_far_it_is(experiment: Experiment) -> None:
    running, told = Trial(0, Role.START, {}, seed=0, worker=0), []
    running.add({"epoch": 5, "train_loss": 0.5})
    assert not stopped(running, experiment, lambda *report: told.append(report) or False)
    assert told == [(0, Point(0.25, [], low_rank=False, settled=False), False)]


def test_a_trial_is_judged_once_per_rung(experiment: Experiment) -> None:
    assert judged_at(experiment, delay=EPOCHS) == [5, 10]


def test_a_rung_in_the_window_after_the_change_over_is_put_off(experiment: Experiment) -> None:
    assert judged_at(experiment, delay=4) == [9, 10]  # low-rank from epoch 5, recovered at 5 + 4
    assert judged_at(experiment, delay=8) == [5, 13]
    assert judged_at(experiment, delay=5) == [5, 10]


def test_the_worse_half_stops(experiment: Experiment) -> None:
    others = [trial(n, [error] * 20) for n, error in enumerate((0.1, 0.2, 0.3))]
    assert stops(experiment, others, trial(9, [0.25] * 5))
    assert not stops(experiment, others, trial(9, [0.15] * 5))


def test_too_few_to_compare_with_stop_nothing(experiment: Experiment) -> None:
    assert not stops(experiment, [trial(n, [0.1] * 20) for n in (0, 1)], trial(9, [0.9] * 5))


def test_trials_are_compared_at_equal_shares(experiment: Experiment) -> None:
    late = [trial(n, [0.9] * 5 + [0.1] * 15) for n in range(4)]
    assert not stops(experiment, late, trial(9, [0.5] * 5))
    assert stops(experiment, late, trial(9, [0.5] * 10))
    behind = [trial(n, [0.1] * 4) for n in range(4)]
    assert not stops(experiment, behind, trial(9, [0.5] * 5))


def test_trials_are_compared_in_the_same_phase_only(experiment: Experiment) -> None:
    """A dense trial pays for its trainable share, which the score weighs; a low-rank one has just lost accuracy."""
    low_rank = [trial(n, [0.1] * 20, delay=1) for n in range(4)]
    assert not stops(experiment, low_rank, trial(9, [0.5] * 10))
    assert stops(experiment, low_rank, trial(9, [0.5] * 10, delay=2))
    unsettled = [trial(n, [0.1] * 20, delay=8) for n in range(4)]
    assert not stops(experiment, unsettled, trial(9, [0.5] * 10, delay=2))


def test_with_two_goals_only_the_dominated_stop() -> None:
    experiment = load("vit_digits", ["score={minimize: [error, trainable_percent]}", f"training.epochs={EPOCHS}"])
    others = [trial(n, [0.1] * 20, delay=1) for n in range(8)]
    smaller = trial(9, [0.5] * 10, delay=1)
    for record in smaller.epochs:
        record["trainable_percent"] = 5
    assert not stops(experiment, others, smaller)
    assert stops(experiment, others, trial(9, [0.5] * 10, delay=1))


@given(
    st.lists(st.integers(0, 50).map(lambda n: n / 50), min_size=4, max_size=30),
    st.integers(0, 50).map(lambda n: n / 50),
)
def test_the_share_that_goes_on_is_one_in_factor(errors: list[float], error: float) -> None:
    others = [trial(n, [value] * 5) for n, value in enumerate(errors)]
    better = sum(value < error for value in errors)
    assert stops(DEFAULTS, others, trial(99, [error] * 5)) == (better >= (len(errors) + 1) / 2)
