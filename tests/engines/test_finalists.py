"""The last part of a search trains its best settings again, with fresh seeds."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo import experiment as experiments
from oialr_hpo import export, search
from oialr_hpo.engines.desk import Desk
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.experiment.space import as_text
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.status import status, summary
from tests.engines.test_propulate import mpirun, needs_mpi

CHANGES = ["dense_baseline=false", "start_from=[]", "early_stopping.enabled=false", "score.trainable_weight=0.0"]
Outcome = Callable[[Trial], float | None]


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load("vit_digits", [*CHANGES, "trials=20", "search={oialr.cutoff: {float: [0.01, 0.99]}}"])


def searched(experiment: Experiment, outcome: Outcome, earlier: Sequence[Trial] = (), workers: int = 3) -> list[Trial]:
    """The trials of a search whose proposals are drawn; a trial without an outcome fails."""
    desk, rng = Desk(experiment, workers, earlier, say=lambda text: None), np.random.default_rng(len(earlier))
    trials, running = [*earlier], list[Trial]()
    while True:
        while len(running) < workers and (ticket := desk.next()):
            tried = ticket.settings or {"oialr.cutoff": float(rng.random())}
            running.append(Trial(ticket.number, ticket.role, tried, ticket.seed, worker=0))
        if not running:
            return sorted(trials, key=lambda trial: trial.number)
        trial = running.pop(0)
        score = outcome(trial)
        trial.state = State.FAILED if score is None else State.COMPLETE
        several = len(experiment.score.goals)
        trial.scores = [] if score is None else [score, 1 - score][:several]
        trial.signs = [1] * len(trial.scores)
        trials.append(trial)
        desk.ended(trial)


def noisy(trial: Trial) -> float:
    """The lower the cutoff the better; the noise hides a difference of a tenth."""
    return float(trial.settings["oialr.cutoff"]) + 0.1 * float(np.random.default_rng(trial.seed).standard_normal())


def test_a_quarter_of_the_trials_trains_the_best_settings_again_with_fresh_seeds(experiment: Experiment) -> None:
    trials = searched(experiment, noisy)
    assert [trial.role for trial in trials] == 15 * [Role.PROPOSAL] + 5 * [Role.FINALIST]
    assert len({trial.seed for trial in trials}) == 20
    ranked = sorted(trials[:15], key=lambda trial: trial.scores)
    again = Counter(as_text(trial.settings) for trial in trials[15:])
    assert set(again) >= {as_text(trial.settings) for trial in ranked[:2]}
    assert set(again) <= {as_text(trial.settings) for trial in ranked[:5]}


def test_winners_are_better_and_say_what_they_are_worth(experiment: Experiment) -> None:
    lucky, raced, said = [], [], []
    for seed in range(40):
        here = experiment.with_settings({"seed": 1000 * seed})
        trials = searched(here, noisy)
        winner = standings(trials)[0]
        raced.append(float(winner.trial.settings["oialr.cutoff"]))
        said.append(winner.goals[0])
        alone = standings(searched(here.with_settings({"finalists.count": 0}), noisy))[0]
        lucky.append((float(alone.trial.settings["oialr.cutoff"]), alone.goals[0]))
    assert fmean(raced) < fmean(true for true, _ in lucky)
    assert abs(fmean(said) - fmean(raced)) < 0.75 * abs(fmean(score - true for true, score in lucky))


def test_settings_that_fail_with_a_fresh_seed_drop_out(experiment: Experiment) -> None:
    def outcome(trial: Trial) -> float | None:
        return None if trial.role is Role.FINALIST and trial.number == 15 else noisy(trial)

    lowest = min(noisy(trial) for trial in searched(experiment, noisy, workers=1)[:15])
    trials = searched(experiment, outcome, workers=1)
    failed = trials[15]
    assert failed.state is State.FAILED and noisy(replace(failed, seed=trials_of(trials, failed)[0].seed)) == lowest
    assert len(trials_of(trials, failed)) == 2
    assert as_text(failed.settings) not in [standing.key for standing in standings(trials)]


def trials_of(trials: Sequence[Trial], one: Trial) -> list[Trial]:
    return [trial for trial in trials if trial.settings == one.settings]


def test_settings_that_are_clearly_behind_make_room(experiment: Experiment) -> None:
    def sure(trial: Trial) -> float:
        fresh = trial.role is Role.FINALIST and trial.number == 15
        return 5.0 if fresh else float(trial.settings["oialr.cutoff"]) + 1e-3 * trial.number

    trials = searched(experiment.with_settings({"trials": 40, "finalists.count": 2}), sure, workers=1)
    behind = trials[30]
    assert all(trial.role is Role.FINALIST for trial in trials[30:])
    assert len({as_text(trial.settings) for trial in trials[30:]}) >= 2 and behind in trials_of(trials, behind)


def test_the_field_narrows_to_the_best_two(experiment: Experiment) -> None:
    trials = searched(experiment.with_settings({"trials": 80, "finalists.count": 10}), noisy)
    finalists = [trial for trial in trials if trial.role is Role.FINALIST]
    assert (
        len({as_text(trial.settings) for trial in finalists[-4:]})
        == 2
        < len({as_text(trial.settings) for trial in finalists})
    )
    trained = Counter(as_text(trial.settings) for trial in finalists)
    assert trained[standings(trials)[0].key] == max(trained.values()) >= 4


@given(
    failing=st.sets(st.integers(0, 40)),
    share=st.floats(0.05, 0.9),
    count=st.none() | st.integers(0, 6),
    cut=st.integers(1, 24),
    workers=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_the_budget_is_kept_whatever_happens_and_a_resumed_search_goes_on(
    failing: set[int], share: float, count: int | None, cut: int, workers: int
) -> None:
    here = load("vit_digits", [*CHANGES, "trials=24", "search={oialr.cutoff: {float: [0.01, 0.99]}}"])
    here = here.with_settings({"finalists.count": count, "finalists.share": share})

    def outcome(trial: Trial) -> float | None:
        return None if trial.number in failing else noisy(trial)

    whole = searched(here, outcome, workers=workers)
    resumed = searched(here, outcome, whole[:cut], workers)
    for trials in (whole, resumed):
        assert [trial.number for trial in trials] == list(range(len(trials)))
        finalists = [trial for trial in trials if trial.role is Role.FINALIST]
        assert len(finalists) <= here.finalists.budget(24)
        for trial in finalists:
            assert trials_of(trials, trial)[0].state is State.COMPLETE
        if all(trial.state is State.COMPLETE for trial in trials):
            assert len(trials) == 24 and len(finalists) == here.finalists.budget(24)


def test_with_two_goals_the_front_is_trained_again(experiment: Experiment) -> None:
    both = {"score.minimize": ["error", "trainable_percent"], "score.trainable_weight": 0.0, "sampler.name": "nsga2"}
    trials = searched(experiment.with_settings(both), noisy)
    again = Counter(as_text(trial.settings) for trial in trials if trial.role is Role.FINALIST)
    assert sum(again.values()) == 5 and max(again.values()) == 1  # all are on the front


def test_status_and_the_exported_file_say_the_mean_of_the_fresh_trainings(tmp_path: Path) -> None:
    changes = [*CHANGES, "trials=12", "finalists.count=1", "finalists.share=0.34"]
    run = search.run("vit_digits", changes=changes, out=tmp_path, jobs=2, objective="tests.objectives:noisy_bowl")
    again = [trial for trial in run.trials() if trial.role is Role.FINALIST]
    assert [trial.number for trial in again] == [8, 9, 10, 11]
    best = status(run)["best"]
    assert best["trials"] == [8, 9, 10, 11]
    assert best["score"] == pytest.approx(fmean(trial.scores[0] for trial in again)) and best["deviation"] > 0
    assert "best 1 (mean of 4 ±" in summary(run)
    (file,) = export.export(run)
    evidence = experiments.load(str(file)).evidence
    assert evidence is not None and evidence["mean_of_trials"] == [8, 9, 10, 11]
    assert evidence["mean_score"] == best["score"] and evidence["deviation"] == best["deviation"]
    assert evidence["trial"] in best["trials"] and "; mean of 4 trials" in file.read_text()
    assert json.dumps(status(run))


@needs_mpi
def test_over_mpi_every_rank_may_train_finalists(tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = f"""
from pathlib import Path
from oialr_hpo import search
changes = {[*CHANGES, "trials=16"]}
search.run("vit_digits", changes=changes, out=Path({str(out)!r}), objective="tests.objectives:noisy_bowl")
"""
    done = mpirun(2, "-c", script)
    assert done.returncode == 0, done.stderr
    trials = RunDirectory.open(out).trials()
    assert Counter(trial.role for trial in trials) == {Role.PROPOSAL: 12, Role.FINALIST: 4}
    assert all(trial.state is State.COMPLETE for trial in trials) and len({trial.seed for trial in trials}) == 16
