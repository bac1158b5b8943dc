"""Trials that are behind wait, and go on where they stopped: in one process, over MPI, after a kill."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from oialr_hpo import search
from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from oialr_hpo.training.objective import evaluate
from tests.engines.test_nothing_is_lost import ROOT, events, kill
from tests.engines.test_propulate import MPIRUN, SCRIPT, mpirun, needs_mpi
from tests.engines.test_search import run
from tests.tiny_task import tiny

STOPPING = "early_stopping={enabled: true, rungs: [0.5], minimum: 1, recovery: 0.0}"
CHANGES = [STOPPING, "training.epochs=4", "sampler.name=random", "dense_baseline=false", "start_from=[]"]
KEPT = "tests.objectives:kept"


def epochs_trained(out: Path) -> Counter[tuple[Any, Any]]:
    """How often each epoch of each trial was trained."""
    return Counter((event["number"], event["epoch"]) for event in events(out) if event["event"] == "epoch")


def test_a_trial_that_was_paused_has_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    """The second learning rate learns nothing: it waits until nothing else is left."""
    changes = {"search": {"schedule.lr": {"choices": [1e-2, 1e-7]}}, "start_from": [{"schedule.lr": 1e-2}]}
    experiment = Experiment.model_validate(tiny().dump() | changes | {"dense_baseline": False, "trials": 2})
    stopping = {"early_stopping.rungs": [0.5], "early_stopping.minimum": 1, "early_stopping.recovery": 0.0}
    done = search.run(experiment.with_settings(stopping), out=tmp_path / "run")
    first, second = done.trials()
    assert [first.state, second.state] == [State.COMPLETE] * 2 and (first.attempt, second.attempt) == (1, 2)
    ends = [event["state"] for event in events(done.path) if event["event"] == "end"]
    assert ends == ["complete", "paused", "complete"] and set(epochs_trained(done.path).values()) == {1}
    alone = list(evaluate(done.experiment.trial(second.settings), seed=second.seed, threads=second.threads))
    told = ("epoch", "train_loss", "mse", "mark", "ranks", "trainable_percent", "step")
    assert [[record[key] for key in told] for record in second.epochs] == [[r[key] for key in told] for r in alone]
    assert not any((done.path / "checkpoints").iterdir())
    assert second.seconds > second.epochs[-1]["seconds"] > 0


def test_what_cannot_be_kept_is_pruned(tmp_path: Path) -> None:
    """An objective of one's own that keeps nothing."""
    done = run(tmp_path / "run", *CHANGES, "trials=12", "training.epochs=3", objective="tests.objectives:bowl")
    assert {trial.state for trial in done.trials()} == {State.COMPLETE, State.PRUNED}
    assert not (done.path / "checkpoints").exists()


@needs_mpi
@pytest.mark.parametrize("ranks_per_trial", [1, 2])
def test_what_one_rank_paused_goes_on_on_another(tmp_path: Path, ranks_per_trial: int) -> None:
    out, ranks = tmp_path / "run", 3 if ranks_per_trial == 1 else 4
    script = SCRIPT.replace("objective=objective", f"objective=objective, ranks_per_trial={ranks_per_trial}")
    done = mpirun(ranks, "-c", script, str(out), KEPT, "", "trials=24", *CHANGES)
    assert done.returncode == 0, done.stderr
    directory = RunDirectory.open(out)
    trials = directory.trials()
    assert [trial.number for trial in trials] == list(range(24)) and "[24/24]" in done.stdout
    assert {trial.state for trial in trials} <= {State.COMPLETE, State.PRUNED}
    assert set(epochs_trained(out).values()) == {1} and not any((out / "checkpoints").iterdir())
    for trial in trials:
        assert [record["epoch"] for record in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert len(trial.epochs) == (4 if trial.state is State.COMPLETE else 2)
    workers: dict[Any, set[Any]] = {}
    for event in events(out):
        if event["event"] == "start":
            workers.setdefault(event["number"], set()).add(event["worker"])
    assert any(len(each) > 1 for each in workers.values())


@needs_mpi
def test_what_waits_when_all_are_killed_goes_on_with_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [str(MPIRUN), "-n", "3", sys.executable, "-c", SCRIPT, str(out), KEPT, "", "trials=1000", *CHANGES]
    searching = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    while searching.poll() is None and len(list(out.glob("checkpoints/*.pt"))) < 3:
        time.sleep(0.02)
    kill(out, searching, everything=True)
    before = RunDirectory.open(out).trials()
    waiting = {trial.number: trial for trial in before if trial.state is State.PAUSED}
    assert waiting and {path.name for path in (out / "checkpoints").iterdir()} >= {
        f"trial-{number:05d}.pt" for number in waiting
    }
    again = run(out, *CHANGES, f"trials={len(before)}", objective=KEPT, jobs=1, resume=True)
    after = {trial.number: trial for trial in again.trials()}
    assert set(after) == {trial.number for trial in before} and all(trial.state.final for trial in after.values())
    gone_on = [number for number in waiting if after[number].state is State.COMPLETE]
    assert gone_on and all(epochs_trained(out)[number, epoch] == 1 for number in gone_on for epoch in (1, 2, 3, 4))
    assert [after[number].attempt for number in gone_on] == [waiting[number].attempt + 1 for number in gone_on]
    assert not any((out / "checkpoints").iterdir())
