"""Run directories, exported files, checkpoints and weights of version 0.1 (tests/data/version_0_1) keep working."""

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import oialr_hpo
from oialr_hpo import experiment, search
from oialr_hpo.objective import build_task
from oialr_hpo.oialr import load_low_rank
from tests.engines.test_propulate import mpirun, needs_mpi

OLD = Path(__file__).parent / "data" / "version_0_1"
STATES = {
    "propulate": {"complete": 5, "pruned": 3, "failed": 3, "interrupted": 3},
    "optuna": {"complete": 4, "pruned": 1, "failed": 2, "interrupted": 2},
    "trained": {"complete": 1, "interrupted": 1},
}
BEST = {"propulate": (5, 0.49559), "optuna": (3, 0.46644), "trained": (0, 0.56681)}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in, with its task `waves` on the path of this process and its children."""
    copy = tmp_path / "old"
    shutil.copytree(OLD, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend(str(OLD))
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(OLD), root, os.environ.get("PYTHONPATH", "")]))
    return copy


def run(command: str, *arguments: str) -> None:
    importlib.import_module(f"oialr_hpo.{command}").main(list(arguments))


def events(run: Path, number: int) -> list[dict[str, Any]]:
    """What the trial files tell of one trial, in the order of time."""
    lines = [line for file in run.glob("trials/rank-*.jsonl") for line in file.read_text().splitlines()]
    found = [event for event in map(json.loads, lines) if event.get("number") == number]
    return sorted(found, key=lambda event: event["time"])


def went_on(run: Path, number: int) -> bool:
    """Whether an interrupted trial went on with the epoch after its checkpoint's, and reached its end."""
    told = events(run, number)
    again = next(place for place, event in enumerate(told) if event["event"] == "start" and event["attempt"] == 2)
    before, after = (
        [event["epoch"] for event in part if event["event"] == "epoch"] for part in (told[:again], told[again:])
    )
    return after[0] == before[-1] + 1 and told[-1]["state"] in ("complete", "pruned")


@pytest.mark.parametrize("name", STATES)
def test_old_runs_are_read_as_they_were(old: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("status", name, "--json")
    told = json.loads(capsys.readouterr().out)
    assert {state: count for state, count in told["trials"].items() if count} == STATES[name]
    number, score = BEST[name]
    assert told["best"]["number"] == number and told["best"]["score"] == pytest.approx(score, abs=1e-5)
    run("status", name, "--csv")
    assert len(capsys.readouterr().out.splitlines()) == 1 + sum(STATES[name].values())
    run("status", name)
    assert "--resume" in capsys.readouterr().out


def test_an_old_run_exports_what_it_exported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["best/optuna-1.yaml", "best/optuna-2.yaml"]
    before = [experiment.load(file) for file in files]
    run("export", "optuna", "--top", "2", "--out", "best")  # knows the old files as its own and replaces them
    assert capsys.readouterr().out.split() == files
    assert [experiment.load(file) for file in files] == before


def test_old_runs_are_drawn(old: Path) -> None:
    for name in ("propulate", "optuna"):
        run("report.__main__", name)
        assert (old / name / "report.html").stat().st_size > 10_000
    run("figures", "propulate")


def test_an_old_comparison_is_complete(old: Path) -> None:
    """The same command trains nothing, and the table comes out again, with what tables say by now besides."""
    content = (old / "compared/table.json").read_text()
    logs = {file: file.read_bytes() for file in old.glob("compared/**/*.jsonl")}
    changes = ["trials=3", "training.epochs=2", "training.track=0", "start_from=[{}]"]
    options = [text for change in changes for text in ("--set", change)]
    command = ["waves.yaml", "--out", "compared", "--seeds", "1000", "1001", "--methods", "dense", "tuned"]
    run("reproduce", *command, *options)
    assert {file: file.read_bytes() for file in old.glob("compared/**/*.jsonl")} == logs
    again = json.loads((old / "compared/table.json").read_text())
    assert [each.pop("pairs")[0]["row"] for each in again["experiments"]] == ["tuned"]
    assert again == json.loads(content)


@needs_mpi
def test_a_search_over_mpi_goes_on_there_and_in_one_process(old: Path) -> None:
    before = {number: events(old / "propulate", number) for number in range(14)}
    command = ["-m", "oialr_hpo.search", str(old / "waves.yaml"), "--out", str(old / "propulate"), "--resume"]
    done = mpirun(2, *command, "--trials", "14")
    assert done.returncode == 0, done.stderr
    assert went_on(old / "propulate", 12)
    goes_on = {"resume": True, "objective": "oialr_hpo.objective:evaluate"}  # by the name that scripts of then give
    finished = search.run("waves.yaml", out=old / "propulate", changes=["trials=15"], **goes_on).trials()
    assert [trial.number for trial in finished] == list(range(15)) and all(trial.finished for trial in finished)
    for number in set(range(14)) - {0, 12, 13}:
        assert events(old / "propulate", number) == before[number]
    assert not list(old.glob("propulate/checkpoints/*"))


@needs_mpi
def test_a_search_in_one_process_goes_on_there_and_over_mpi(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {number: events(old / "optuna", number) for number in range(9)}
    done = mpirun(2, "-m", "oialr_hpo.search", str(old / "digits.yaml"), "--out", str(old / "optuna"),
                  "--resume", "--trials", "9", "--retry", "failed")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert went_on(old / "optuna", 8)
    changes = ["trials=10", "search.model.arguments.num_heads={choices: [1, 2, 5, 3]}"]
    finished = search.run("digits.yaml", out=old / "optuna", changes=changes, resume=True).trials()
    assert [trial.number for trial in finished] == list(range(10)) and all(trial.finished for trial in finished)
    for number in set(range(9)) - {1, 2, 4, 8}:
        assert events(old / "optuna", number) == before[number]


def test_old_trainings_go_on(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "waves.yaml", "--seeds", "0", "1", "--out", "trained", "--threads", "1", "--resume")
    shown = [line.split("  ")[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert shown == [["seed 1", "epoch 5/6"], ["seed 1", "epoch 6/6"]]
    assert went_on(old / "trained", 1)


def test_an_exported_file_trains_again_and_starts_searches(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "best/optuna-1.yaml", "--set", "training.epochs=1")
    run("train", "best/optuna-1.yaml", "--method", "untuned", "--set", "training.epochs=1")
    assert capsys.readouterr().out.count("seed 3  epoch 1/1") == 2
    started = search.run(
        "digits.yaml",
        changes=["trials=2", "dense_baseline=false", "start_from=[]"],
        out=old / "new",
        start_from=[old / "best/optuna-2.yaml", old / "optuna"],
        objective="tests.objectives:bowl",
    ).trials()
    exported = [experiment.load(f"best/optuna-{place}.yaml") for place in (2, 1)]
    assert [trial.settings for trial in started] == [
        {key: file.value(key) for key in trial.settings} for trial, file in zip(started, exported, strict=True)
    ]


def test_old_weights_are_the_networks_that_were_measured(old: Path) -> None:
    task: Any = build_task(experiment.load("waves.yaml"), seed=0, device=torch.device("cpu"), data_dir=None)
    model = load_low_rank(task.build_model(), load_file("waves.safetensors")).eval()
    with safe_open("waves.safetensors", "pt") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
    with torch.no_grad():
        assert task.evaluate(model, "validation")["mse"] == pytest.approx(told["metrics"]["mse"], abs=1e-4)
    assert sum(parameter.numel() for parameter in model.parameters()) == told["metrics"]["parameters"]
    loaded = oialr_hpo.load("waves.safetensors", merge=False).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_an_old_analysis_is_complete(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = (old / "utilized/state.json").read_text()
    options = ["--threads", "1", "--tolerance", "3", "--images", "500", "--set", "data.validation_fraction=0.3"]
    run(
        "utilization.__main__", "digits.yaml", "--checkpoint", "digits-dense.safetensors", "--out", "utilized", *options
    )
    assert (old / "utilized/state.json").read_text() == state
    assert "17.1 validation passes" in capsys.readouterr().out


def test_no_checkpoint_names_a_module_of_the_package() -> None:
    """What moves within the package may; checkpoints alone could hold its old place."""
    for checkpoint in OLD.glob("*/checkpoints/*.pt"):
        assert b"oialr_hpo" not in checkpoint.read_bytes()


IMPORTS = """
from oialr_hpo import experiment, search
from oialr_hpo.experiment import Experiment, ExperimentError, load
from oialr_hpo.export import export
from oialr_hpo.objective import build_task, evaluate
from oialr_hpo.oialr import OIALR, Report, load_low_rank, merge, plan
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.tasks import DataError, Section, Split, Task, TaskSettings
from oialr_hpo.tasks.forecasting import Forecasting
from oialr_hpo.tasks.image_classification import ImageClassification
from oialr_hpo.tasks.image_folder import ImageFolder
from oialr_hpo.utilization import Accuracy, LayerUtilization, Utilization, analyse, compact, factorise
assert experiment.load is load and callable(search.run)
"""


def test_scripts_import_what_they_did() -> None:
    """What README, the launch scripts and the tests with other packages showed users at that commit."""
    exec(IMPORTS, {})
