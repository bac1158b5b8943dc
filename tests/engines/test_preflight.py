"""The training process that rehearses before a search, and what commands make of it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oialr_hpo import check, reproduce, search, train
from oialr_hpo.engines import preflight
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.runs.trial import State
from oialr_hpo.training import devices
from oialr_hpo.utilization import __main__ as utilization
from tests.engines.test_propulate import MPIRUN, needs_mpi
from tests.training.test_rehearsal import own, rehearsed_here

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]
UNKNOWN = ["--set", "score.minimize=accuracy"]


def test_the_process_that_rehearsed_trains_the_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    rehearsed: list[int] = []
    inner = preflight.rehearse

    def rehearse(*arguments: Any, **named: Any) -> TrainingProcess:
        process = inner(*arguments, **named)
        rehearsed.append(process._child.pid)  # type: ignore[union-attr]
        return process

    monkeypatch.setattr(preflight, "rehearse", rehearse)
    experiment = own("tests.mistaken:Tells", tmp_path, "trials=2")
    out = tmp_path / "run"
    trials = search.run(experiment, out=out).trials()
    assert on_devices(capsys.readouterr().out)
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2
    assert {trial.metrics["process"] for trial in trials} == set(rehearsed)
    assert sum(f"evaluated in {rehearsed[0]}" in file.read_text() for file in (out / "logs").iterdir()) == 1

    more = experiment.model_copy(update={"trials": 3})
    assert len(search.run(more, out=out, resume=True).trials()) == 3 and len(rehearsed) == 1
    assert on_devices(capsys.readouterr().out)
    search.run(more, out=out, resume=True)
    assert not on_devices(capsys.readouterr().out)  # nothing is trained


def on_devices(printed: str) -> bool:
    """Whether a search says at its beginning what it trains on."""
    workers = next(line for line in printed.splitlines() if line.startswith("workers"))
    return workers.endswith(f", on {devices.of_this_process()}")


def test_a_search_with_an_own_objective_says_its_devices(tmp_path: Path, capsys: Captured) -> None:
    search.run("vit_digits", changes=["trials=1"], out=tmp_path / "run", objective=with_torch)
    assert on_devices(capsys.readouterr().out)


def with_torch(experiment: Experiment, **_: Any) -> dict[str, float]:
    return {"error": 0.5, "trainable_percent": 10.0}


def test_a_process_that_dies_is_a_mistake_and_one_that_hangs_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExperimentError, match="a first step was tried, and the training process was killed by SIGSEGV"):
        preflight.rehearse(own("tests.mistaken:Dies", tmp_path), 1, None)
    monkeypatch.setattr(preflight, "LONGEST_SECONDS", 0.5)
    process = preflight.rehearse(own("tests.mistaken:Hangs", tmp_path), 1, None)
    assert process._child is None
    process.close()


def test_mistakes_are_one_line_of_every_command_and_nothing_is_written(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "rehearse", rehearsed_here)  # without a process of its own, which the next test has
    monkeypatch.chdir(tmp_path)
    for main in (search.main, train.main, reproduce.main, utilization.main):
        options = ["--out", "run"] if main is train.main else []
        with pytest.raises(SystemExit, match="2"):
            main(["vit_digits", *UNKNOWN, *options])
        said = capsys.readouterr()
        assert not said.out and said.err.startswith("error: score: there is no metric 'accuracy'; known: ")
        assert said.err.count("\n") == 1
    with pytest.raises(SystemExit, match="1"):
        check.main(["vit_digits", *UNKNOWN])
    assert "\nerror: score: there is no metric 'accuracy'" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@needs_mpi
def test_over_mpi_one_rank_speaks_and_all_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(MPIRUN), "-n", "2", sys.executable, "-m", "oialr_hpo.search", "vit_digits", *UNKNOWN],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: score: there is no metric 'accuracy'") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
