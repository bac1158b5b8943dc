"""Trials that two MPI ranks train together, under a real mpirun."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import Role, State
from oialr_hpo.training.objective import evaluate
from tests.blobs import EXPERIMENT
from tests.engines.test_interruption import wait_for_epoch
from tests.engines.test_nothing_is_lost import running
from tests.engines.test_propulate import MPIRUN, SCRIPT, mpirun, needs_mpi
from tests.tiny_task import tiny

pytestmark = needs_mpi
TWO = SCRIPT.replace("objective=objective", "objective=objective, ranks_per_trial=2")
REAL = "oialr_hpo.objective:evaluate"


def of_file(tmp_path: Path, content: str) -> str:
    """The script with another experiment than vit_digits."""
    (tmp_path / "own.yaml").write_text(content)
    return TWO.replace("vit_digits", str(tmp_path / "own.yaml"))


def test_two_ranks_train_what_one_would(tmp_path: Path) -> None:
    plain = tiny(**{"model.dropout": 0.0, "model.batch_norm": False, "training.optimizer": "sgd"}).dump()
    content = plain | {"search": {"oialr.cutoff": {"float": [0.1, 0.6]}}, "dense_baseline": True, "trials": 4}
    script, again = of_file(tmp_path, yaml.safe_dump(content)), ["finalists.count=1", "finalists.share=0.5"]
    done = mpirun(2, "-c", script, str(tmp_path / "run"), REAL, "", *again)
    assert done.returncode == 0, done.stderr
    run = RunDirectory.open(tmp_path / "run")
    trials = run.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 4
    assert [trial.role for trial in trials] == [Role.DENSE, Role.PROPOSAL, Role.FINALIST, Role.FINALIST]
    assert all(trial.settings == trials[1].settings for trial in trials[2:])
    assert len({trial.seed for trial in trials[1:]}) == 3 and standings(trials)[0].trials == trials[1:]
    for trial in trials[:3]:
        method = "dense" if trial.role is Role.DENSE else "oialr"
        alone = run.experiment.with_settings(trial.settings | {"method": method})
        for ours, theirs in zip(trial.epochs, evaluate(alone, seed=trial.seed), strict=True):
            assert ours["ranks"] == theirs["ranks"]
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-2)
            assert ours["train_mse"] == pytest.approx(theirs["train_mse"], rel=1e-2)
            assert ours["mse"] == pytest.approx(theirs["mse"], rel=1e-2)


def test_a_trial_that_fails_on_one_of_its_ranks_fails_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = mpirun(4, "-c", TWO, str(out), "tests.objectives:uneven", "", "trials=6", "trial_timeout=15s")
    assert done.returncode == 0, done.stderr
    run = RunDirectory.open(out)
    trials = run.trials()
    assert [trial.number for trial in trials] == list(range(6))
    assert run.environment["workers"] == 2 and {trial.worker for trial in trials} == {0, 1}
    assert Counter(trial.reason for trial in trials) == {
        None: 4,
        "on rank 1 of the trial: ValueError: only here": 1,
        "on rank 1 of the trial: the training process ended with exit status 7": 1,
    }


def test_a_signal_to_a_second_rank_interrupts_and_resume_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = of_file(tmp_path, EXPERIMENT.replace("Blobs", "Slow"))
    arguments, changes = [script, str(out), REAL], ["training.epochs=24", "trials=1"]
    searching = subprocess.Popen([str(MPIRUN), "-n", "2", sys.executable, "-c", *arguments, "", *changes])
    wait_for_epoch(out)
    os.kill(max(running(out)), signal.SIGUSR1)
    searching.communicate(timeout=120)
    interrupted = RunDirectory.open(out).trials()
    assert [trial.state for trial in interrupted] == [State.INTERRUPTED]
    assert len(list((out / "checkpoints").iterdir())) == 1

    done = mpirun(2, "-c", *arguments, "resume", *changes)
    assert done.returncode == 0, done.stderr
    for before, after in zip(interrupted, RunDirectory.open(out).trials(), strict=True):
        assert after.state is State.COMPLETE
        assert [record["epoch"] for record in after.epochs] == list(range(1, 25))
        assert after.epochs[: len(before.epochs)] == before.epochs


def test_ranks_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = mpirun(3, "-m", "oialr_hpo.search", "vit_digits", "--ranks-per-trial", "2", "--out", str(out))
    assert done.returncode == 2 and "--ranks-per-trial 2 does not divide the 3 MPI ranks" in done.stderr
    assert not out.exists()
