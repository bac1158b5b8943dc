"""Which settings mattered, and how sure that is."""

import optuna
import pytest

from oialr_hpo.report.importance import importances

optuna.logging.set_verbosity(optuna.logging.WARNING)


def searched(trials: int) -> optuna.Study:
    """One setting decides, the other does nothing; a third is there in every second trial only."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        deciding, idle = trial.suggest_float("deciding", 0, 1), trial.suggest_float("idle", 0, 1)
        if trial.number % 2:
            trial.suggest_float("sometimes", 0, 1)
        return (deciding - 0.3) ** 2 + 0 * idle

    study.optimize(objective, n_trials=trials)
    return study


def test_a_setting_that_decides_is_told_from_one_that_does_not() -> None:
    found = importances(searched(120), ["idle", "deciding"])
    assert [*found] == ["deciding", "idle"] and sum(each.share for each in found.values()) == pytest.approx(1)
    assert found["deciding"].low > found["idle"].high
    assert all(0 <= each.low <= each.high <= 1 for each in found.values())
    assert importances(searched(120), ["idle", "deciding"]) == found


def test_a_setting_of_some_trials_only_and_few_trials() -> None:
    found = importances(searched(4), ["sometimes", "idle", "deciding"])
    assert {*found} == {"sometimes", "idle", "deciding"}
