"""Searches in one process, through the public door, with real workers and objectives without a network."""

import csv
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from oialr_hpo import export, search
from oialr_hpo.engines.engine import choose_engine
from oialr_hpo.experiment import load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.trial import Role, State
from oialr_hpo.status import status, summary
from tests import objectives

BOWL = "tests.objectives:bowl"


def run(out: Path, *changes: str, objective: str = BOWL, jobs: int = 2, **options: Any) -> RunDirectory:
    return search.run(
        "vit_digits",
        changes=["score.trainable_weight=0.0", "finalists.count=0", "early_stopping.enabled=false", *changes],
        out=out,
        objective=objective,
        jobs=jobs,
        **options,
    )


def test_a_search_runs_the_baseline_the_starts_and_then_better_proposals(tmp_path: Path) -> None:
    trials = run(tmp_path / "run", "trials=40").trials()
    starts = load("vit_digits").starts()
    assert [trial.role for trial in trials[:3]] == [Role.DENSE, Role.START, Role.START]
    assert [trial.settings for trial in trials[1:3]] == starts
    assert [trial.number for trial in trials] == list(range(40))
    assert all(trial.state is State.COMPLETE and len(trial.epochs) == 3 for trial in trials)
    early, late = (median(trial.scores[0] for trial in part) for part in (trials[3:13], trials[20:]))
    assert late < early  # over 16 seeds at most 0.44 of it
    assert len({trial.seed for trial in trials}) == 40


def test_every_way_to_fail_is_recorded_and_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = run(tmp_path / "run", "trials=36", objective="tests.objectives:hazards", jobs=3)
    failed = {trial.number: trial.reason for trial in finished.trials() if trial.state is State.FAILED}
    assert failed == {number: REASONS[number % 18] for number in range(0, 36, 3)}
    assert sum(trial.state is State.COMPLETE for trial in finished.trials()) == 24
    assert "failed 2 x: SystemExit: 3" in summary(finished)


REASONS = {
    0: "RuntimeError: the trial raised on two lines",
    3: "the training process was killed by SIGSEGV",
    6: "the training process ended with exit status 7",
    9: "SystemExit: 3",
    12: "the score is nan at epoch 2",
    15: "the score is inf at epoch 2",
}


def test_resume_adds_what_is_missing_and_repeats_nothing(tmp_path: Path) -> None:
    before = run(tmp_path, "trials=7").trials()
    after = run(tmp_path, "trials=12", jobs=3, resume=True).trials()
    assert after[:7] == before
    assert [trial.number for trial in after] == list(range(12))
    assert sum(trial.role is Role.DENSE for trial in after) == 1
    with pytest.raises(RunDirectoryError, match="add --resume"):
        run(tmp_path, "trials=20")


def test_a_search_in_which_everything_fails_alike_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of an objective that the process that searches has, and those that train have not."""
    monkeypatch.setattr(objectives, "missing", objectives.bowl, raising=False)
    finished = run(tmp_path, "trials=100", objective="tests.objectives:missing")
    assert len(finished.trials()) < 12
    assert {trial.reason for trial in finished.trials()} == {
        "LookupError: 'tests.objectives:missing': module tests.objectives has no missing"
    }


def test_no_trial_starts_after_the_time_limit(tmp_path: Path) -> None:
    """Each worker's first trial outlasts the limit, so that there is no second one."""
    trials = run(tmp_path, "trials=10", "time_limit=2s", objective="tests.objectives:naps").trials()
    assert len(trials) <= 2 and all(trial.state is State.COMPLETE for trial in trials)


def test_status_in_json_is_what_programs_expect(tmp_path: Path) -> None:
    finished = run(tmp_path, "trials=6")
    printed = subprocess.run(
        [sys.executable, "-m", "oialr_hpo.status", str(tmp_path), "--json"], capture_output=True, text=True, check=True
    )
    content = json.loads(printed.stdout)
    assert content == status(finished)
    assert content["trials"] == {
        **{"running": 0, "complete": 6, "paused": 0, "pruned": 0, "failed": 0, "out_of_memory": 0, "interrupted": 0}
    }
    assert content["best"]["score"] == min(t.score for t in finished.trials() if t.role is not Role.DENSE)  # type: ignore[type-var]
    assert set(content["best"]["settings"]) == set(finished.experiment.search)
    assert 0 < content["utilization"] <= 1


def test_status_as_a_table_has_a_row_per_trial_of_every_state(tmp_path: Path) -> None:
    finished = run(tmp_path, "trials=20", objective="tests.objectives:hazards")
    printed = subprocess.run(
        [sys.executable, "-m", "oialr_hpo.status", str(tmp_path), "--csv"], capture_output=True, text=True, check=True
    )
    rows = list(csv.DictReader(printed.stdout.splitlines()))
    for row, trial in zip(rows, finished.trials(), strict=True):
        assert (int(row["number"]), row["role"], row["state"]) == (trial.number, trial.role.value, trial.state.value)
        assert datetime.fromisoformat(row["started"]).timestamp() == pytest.approx(trial.started, abs=1)
        assert row["reason"] == (trial.reason or "") and row["score"] == (
            "" if trial.score is None else str(trial.score)
        )
        assert {key: row[key] for key in trial.settings} == {key: str(value) for key, value in trial.settings.items()}


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_two_goals_give_a_pareto_front_that_is_exported(tmp_path: Path, sampler: str) -> None:
    changes = ["score.minimize=[error, trainable_percent]", f"sampler.name={sampler}", "trials=40"]
    finished = run(tmp_path / "run", *changes, objective="tests.objectives:trade_off")
    front = status(finished)["pareto_front"]
    errors, sizes = zip(*(winner["scores"] for winner in front), strict=True)
    assert len(front) > 2 and list(errors) == sorted(errors) and list(sizes) == sorted(sizes, reverse=True)
    for trial in finished.trials():
        beaten = any(a <= trial.scores[0] and b <= trial.scores[1] for a, b in zip(errors, sizes, strict=True))
        assert trial.role is Role.DENSE or beaten
    export.main([str(tmp_path / "run"), "--pareto", "--out", str(tmp_path / "out")])
    exported = [load(str(path)).oialr.cutoff for path in (tmp_path / "out").iterdir()]
    assert sorted(exported) == sorted(winner["settings"]["oialr.cutoff"] for winner in front)


@pytest.mark.parametrize(
    ("engine", "ranks", "jobs", "message"),
    [
        ("propulate", 1, 1, "needs two MPI ranks or more"),
        ("optuna", 4, 1, "use --jobs 4"),
        (None, 4, 2, "--jobs is for one process"),
    ],
)
def test_an_impossible_engine_is_refused(engine: None, ranks: int, jobs: int, message: str) -> None:
    with pytest.raises(search.ImpossibleChoice, match=message):
        choose_engine(engine, ranks, jobs)
