"""Loggers hear of a search, once, whatever ranks it has, and cost it nothing where they fail."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oialr_hpo import search, train
from oialr_hpo.export import export
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi

ROOT = Path(__file__).parents[2]
NOTEBOOK = "tests.loggers.recorded:Notebook"


def searched(out: Path, loggers: str, *changes: str, trials: int = 3, resume: bool = False, **how: Any) -> RunDirectory:
    changes = (f"trials={trials}", f"loggers=[{loggers}]", "early_stopping.enabled=false", *changes)
    how = {"objective": "tests.objectives:bowl"} | how
    return search.run("vit_digits", changes=changes, out=out, resume=resume, **how)


def heard(out: Path) -> list[str]:
    return (out / "heard.txt").read_text().splitlines()


def news(number: int) -> list[str]:
    """Of a trial of `bowl`, from its beginning to its end."""
    epochs = [f"epoch {number} {epoch}" for epoch in (1, 2, 3)]
    return [f"begin {number} 0", *epochs, f"end {number} complete True"]


def of_trial(lines: list[str], number: int) -> list[str]:
    return [line for line in lines if line.split()[1] == str(number)]


def test_ones_own_hears_every_call_once_also_over_a_resume(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", NOTEBOOK, "dense_baseline=false")
    lines = heard(run.path)
    assert lines[0] == "search begins" and lines[-1] == "search ends" and len(lines) == 17
    assert all(of_trial(lines, number) == news(number) for number in range(3))
    assert run.experiment.loggers == [NOTEBOOK] and "\nloggers" not in export(run)[0].read_text()

    searched(run.path, NOTEBOOK, "dense_baseline=false", trials=4, resume=True)
    again = heard(run.path)
    assert again[:17] == lines and again[17:] == ["search begins", *news(3), "search ends"]


def test_one_that_raises_costs_a_line_and_hears_the_rest_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = "tests.loggers.recorded:Broken"
    run = searched(tmp_path / "run", broken, "dense_baseline=false", trials=2)
    assert [trial.state for trial in run.trials()] == 2 * [State.COMPLETE]
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert f"logger {broken}: RuntimeError: no more ink (recorded.py:" in warning and "--resume" in warning
    assert "end 0 complete True" not in heard(run.path)

    (run.path / "mended").touch()
    searched(run.path, broken, "dense_baseline=false", trials=2, resume=True)
    assert "warning" not in capfd.readouterr().err
    lines = heard(run.path)
    assert [line for line in of_trial(lines, 0) if line[:5] != "begin"] == news(0)[1:]
    assert of_trial(lines, 1) == news(1) and "begin 0 1" in lines


def test_failed_trials_that_are_run_again_are_told_again(tmp_path: Path) -> None:
    hazards = {"objective": "tests.objectives:hazards"}
    run = searched(tmp_path / "run", NOTEBOOK, "dense_baseline=false", trials=1, **hazards)
    searched(run.path, NOTEBOOK, "dense_baseline=false", trials=1, resume=True, retry=[State.FAILED], **hazards)
    once = ["search begins", "begin 0 0", "epoch 0 1", "end 0 failed True", "search ends"]
    assert heard(run.path) == 2 * once


@needs_mpi
def test_over_mpi_there_is_one_writer(tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = ["trials=5", f"loggers=[{NOTEBOOK}]", "dense_baseline=false"]
    done = mpirun(2, "-c", SCRIPT, str(out), "tests.objectives:bowl", "", *changes)
    assert done.returncode == 0, done.stderr
    lines = heard(out)
    assert (lines.count("search begins"), lines.count("search ends"), len(lines)) == (1, 1, 27)
    assert all(of_trial(lines, number) == news(number) for number in range(5))


@pytest.mark.parametrize(
    ("logger", "said"),
    [
        ("tensorbord", "no logger 'tensorbord'; did you mean 'tensorboard'? choose mlflow, tensorboard, wandb"),
        ("tests.loggers.recorded:Notes", "module tests.loggers.recorded has no Notes; did you mean 'Notebook'?"),
        ("pathlib:Path", "'pathlib:Path' is no class that extends oialr_hpo.loggers.Logger"),
        ("tests.loggers.recorded:WrongCall", "WrongCall.epoch: too many positional arguments"),
        ("wandb", 'loggers: wandb needs the package wandb: pip install "oialr_hpo[wandb]"'),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_runs(
    logger: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    out = tmp_path / "run"
    with pytest.raises(SystemExit, match="2"):
        search.main(["vit_digits", "--set", f"loggers=[{logger}]", "--out", str(out)])
    assert said in capsys.readouterr().err and not out.exists()


def test_a_damaged_memory_is_no_obstacle(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", NOTEBOOK, "dense_baseline=false", trials=1)
    assert json.loads((run.path / "loggers.json").read_text()) == {NOTEBOOK: {"0": [1, 3, "complete"]}}
    (run.path / "loggers.json").write_text('{"x": 3')
    searched(run.path, NOTEBOOK, "dense_baseline=false", trials=1, resume=True)
    assert heard(run.path)[-6:-1] == news(0)


def test_trainings_that_are_kept_have_them_too(tmp_path: Path) -> None:
    changes = ["training.epochs=1", "data.train_images=160", "model.arguments.depth=1", f"loggers=[{NOTEBOOK}]"]
    options = [word for change in changes for word in ("--set", change)]
    train.main(["vit_digits", *options, "--threads", "1", "--out", str(tmp_path / "run")])
    first = ["begin 0 0", "epoch 0 1", "end 0 complete True"]
    assert heard(tmp_path / "run") == ["search begins", *first, "search ends"]


def test_a_search_that_is_killed_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """Its loggers hear what is in the trial files, then that it ends; a resumed one goes on from there."""
    out, release = tmp_path / "run", tmp_path / "release"
    changes = ["score.trainable_weight=0.0", "dense_baseline=false", "trials=1", f"loggers=[{NOTEBOOK}]"]
    begun = [sys.executable, "-c", SCRIPT, str(out), "tests.objectives:held"]
    environment = os.environ | {"RELEASE": str(release)}
    search = subprocess.Popen([*begun, "", *changes], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    file = out / "heard.txt"
    while not (file.exists() and "epoch 0 1" in heard(out)):
        assert search.poll() is None
        time.sleep(0.1)
    search.kill()
    search.wait()
    release.touch()
    subprocess.run([*begun, "resume", *changes], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    first = ["search begins", "begin 0 0", "epoch 0 1", "search ends"]
    assert heard(out) == [*first, "search begins", "begin 0 1", "epoch 0 2", "end 0 complete True", "search ends"]
