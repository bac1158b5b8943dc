"""A method outside the package goes through check, search, early stopping, checkpoints, export, train and report."""

import importlib
import os
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from oialr_hpo import methods, search
from oialr_hpo.engines import preflight
from oialr_hpo.engines.early_stopping import curve
from oialr_hpo.experiment import Experiment, ExperimentError, load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.exported import export
from oialr_hpo.runs.trial import Role, State
from oialr_hpo.training.objective import evaluate
from tests.engines.test_propulate import mpirun, needs_mpi
from tests.methods.interruption import interrupted_after
from tests.tiny_task import tiny
from tests.training.test_rehearsal import rehearsed_here

OWN = "tests.methods.own"
EXPERIMENT = f"""
task: tests.tiny_task:TinyTask
data: {{}}
model: {{}}
training: {{epochs: 4, batch_size: 16}}
schedule: {{lr: 1e-2}}
method: {OWN}:TopK
topk: {{delay: 0.5}}
oialr: {{cutoff: 0.1}}
score: {{minimize: mse}}
early_stopping: {{rungs: [0.25, 0.75], minimum: 1, recovery: 0.25}}
search:
  topk.keep: {{float: [0.1, 0.9]}}
  schedule.lr: {{float: [5e-3, 5e-2], log: true}}
start_from: [{{topk.keep: 0.5}}]
dense_baseline: true
trials: 4
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def run(file: Path) -> RunDirectory:
    return search.run(load(str(file)), out=file.parent / "run", jobs=1)


def main(command: str, *arguments: object) -> None:
    importlib.import_module(f"oialr_hpo.{command}").main(list(map(str, arguments)))


def test_its_settings_are_searched(run: RunDirectory) -> None:
    dense, start, *proposed = run.trials()
    assert {trial.state for trial in (dense, start)} == {State.COMPLETE} and dense.role is Role.DENSE
    assert {trial.state for trial in proposed} <= {State.COMPLETE, State.PRUNED}
    assert all("densities" not in r and r["trainable_percent"] == 100 for r in dense.epochs)
    assert start.settings["topk.keep"] == 0.5
    assert [len(record["densities"]) for record in start.epochs] == [0, 5, 5, 5]
    assert start.epochs[0]["full_densities"] == dict.fromkeys(start.metrics["densities"], 1.0)
    assert start.metrics["densities"]["blocks.0.weight"] == pytest.approx(0.5, abs=0.01)
    assert start.metrics["total_percent"] == start.metrics["trainable_percent"] < 60


def test_early_stopping_lets_it_recover_from_its_change_over(run: RunDirectory) -> None:
    start = run.trials()[1]
    points = curve(start, run.experiment)
    assert [point.low_rank for point in points] == [False, True, True, True]
    assert [point.settled for point in points] == [True, False, True, True]


def test_it_is_checked_exported_trained_again_and_reported(
    run: RunDirectory, file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main("check", file, "--out", tmp_path / "new")
    (exported,) = export(run, 1, tmp_path)
    content = yaml.safe_load(exported.read_text())
    assert content["method"] == f"{OWN}:TopK" and content["topk"].keys() == {"keep", "delay"}
    assert content["evidence"]["densities"]
    weights = tmp_path / "weights.safetensors"
    main("train", exported, "--weights", weights)
    assert f"{content['evidence']['score']:.4g}"[:5] in capfd.readouterr().out
    kept = load_file(weights)["blocks.0.weight"] != 0
    assert kept.float().mean().item() == content["evidence"]["densities"]["blocks.0.weight"]
    main("train", exported, "--method", "dense", "--set", "training.epochs=1")
    main("train", exported, "--method", "untuned", "--set", "training.epochs=1")
    main("report.__main__", run.path)
    report = (run.path / "report.html").read_text()
    assert "Density per layer of the best trials" in report and "A search for TOPK settings" in report
    assert list((run.path / "figures").glob("trial-*-densities.png"))
    main("status", run.path)


@needs_mpi
def test_a_search_over_mpi(file: Path, tmp_path: Path) -> None:
    done = mpirun(2, "-m", "oialr_hpo.search", str(file), "--out", str(tmp_path / "run"), "--trials", "3")
    assert done.returncode == 0, done.stderr
    assert all(trial.finished for trial in RunDirectory.open(tmp_path / "run").trials())


@pytest.mark.parametrize("interrupted", [1, 2, 3])
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, tmp_path: Path) -> None:
    experiment = tiny(**{"method": f"{OWN}:TopK", "topk.delay": 0.5, "training.ema_decay": 0.5})
    records = interrupted_after(interrupted, experiment, tmp_path, 3)
    unbroken = list(evaluate(experiment, seed=3))
    for key in ("train_loss", "mse", "mark", "densities", "total_percent"):
        assert [record[key] for record in records] == [record[key] for record in unbroken]


def test_the_best_epochs_network_is_what_is_tested(tmp_path: Path) -> None:
    """It is kept by a checkpoint as its method left it."""
    changes = {"method": f"{OWN}:TopK", "topk.delay": 1, "score.epoch": "best", "schedule.lr": 0.3}
    records = list(evaluate(tiny(**changes), seed=3, split="test"))
    first = evaluate(tiny(**changes), seed=3, split="test", checkpoint=tmp_path / "checkpoint.pt")
    next(first), next(first), next(first)
    with pytest.raises(StopIteration):
        first.send("interrupt")
    (last,) = evaluate(tiny(**changes), seed=3, split="test", checkpoint=tmp_path / "checkpoint.pt")
    assert (last["mse"], last["densities"]) == (records[-1]["mse"], records[-1]["densities"])


def test_a_run_opens_where_the_method_is_not_installed(run: RunDirectory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for part in ("environment.yaml", "trials"):
        os.symlink(run.path / part, elsewhere / part)
    text = (run.path / "experiment.yaml").read_text()
    (elsewhere / "experiment.yaml").write_text(text.replace(f"{OWN}:TopK", "gone.away:TopK"))
    opened = RunDirectory.open(elsewhere)
    assert opened.experiment.value("topk.delay") == 0.5 and len(opened.trials()) == 4
    main("status", elsewhere)


def test_another_method_takes_its_place(file: Path) -> None:
    own = load(str(file))
    dense = load(str(file), ["method=dense"])
    assert list(dense.search) == ["schedule.lr"] and dense.start_from == [{}]
    assert dense == own.with_settings({"method": "dense"})
    assert own.with_settings({"method": f"{OWN}:OwnLoss", "ownloss.weight": 0.5}).value("ownloss.weight") == 0.5
    assert Experiment.model_validate(own.dump()) == own
    assert list(own.dump())[5:8] == ["method", "topk", "oialr"]


def test_a_step_may_be_made_in_parts_or_only_looked_at() -> None:
    twice = list(evaluate(tiny(method=f"{OWN}:Twice"), seed=1))
    assert [record["step"] for record in twice] == [6, 12, 18, 24] and twice[-1]["mse"] < twice[0]["mse"]
    for changes in ({"training.accumulation_steps": 2}, {"training.precision": "float16"}):
        looks = tiny(**{"method": f"{OWN}:OnlyLooks", "model.dropout": 0.0, "model.batch_norm": False, **changes})
        records = list(evaluate(looks, seed=1))
        assert len({record["mark"] for record in records}) == 1 and records[-1]["step"] >= 12


def test_a_loss_of_its_own() -> None:
    plain, heavy = (
        next(iter(evaluate(tiny(**{"method": f"{OWN}:OwnLoss", "ownloss.weight": weight}), seed=1)))
        for weight in (0.0, 1.0)
    )
    dense = next(iter(evaluate(tiny(method="dense"), seed=1)))
    assert plain["train_loss"] == dense["train_loss"] < heavy["train_loss"]


BUILT_IN = sorted(file.stem for file in Path(methods.__file__).parent.glob("[a-z]*.py"))
WRONG = {
    f"{OWN}:Missing": "module tests.methods.own has no Missing",
    "tests.methods.gone:TopK": "No module named 'tests.methods.gone'; is its directory on PYTHONPATH?",
    "topk": f"no method 'topk'; choose {', '.join(BUILT_IN)}, or package.module:Class",
    "oailr": "no method 'oailr'; did you mean 'oialr'?",
    f"{OWN}:function": "it is no class but function",
    f"{OWN}:NoMethod": "it does not extend oialr_hpo.methods.Method",
    f"{OWN}:NoName": "it has no name for its section of the file, such as name = 'mine'",
    f"{OWN}:OtherSettings": "its Settings do not extend oialr_hpo.methods.MethodSettings",
    f"{OWN}:NameOfABuiltIn": "dense is a built-in method; choose another name",
    f"{OWN}:NameOfASection": "its name training is another section's; choose another",
    f"{OWN}:OtherCall": "make_step: too many positional arguments",
}


@pytest.mark.parametrize("method", WRONG)
def test_what_is_no_method_is_said_in_a_line(method: str) -> None:
    with pytest.raises(ExperimentError) as error:
        load("vit_digits", [f"method={method}"])
    text = str(error.value)
    assert text.startswith("vit_digits.yaml: method: ") and WRONG[method] in text and len(text) < 300


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("topk.keep=2", "own.yaml: topk.keep: input should be less than or equal to 1, not 2"),
        ("topk.kep=0.5", "own.yaml: topk.kep: unknown key; did you mean 'keep'? known: keep, delay"),
        ("topk=3", "own.yaml: topk: input should be a valid dictionary"),
        ("topc.keep=0.5", "own.yaml: topc: unknown key;"),
        ("search.topk.kep={float: [0.1, 0.2]}", "search.topk.kep: no such setting; did you mean 'topk.keep'?"),
        ("search.topk.keep={float: [0.1, 2]}", "search.topk.keep: topk.keep: input should be less than or equal to 1"),
        (f"method={OWN}:SettingsThatRaise", "own.yaml: mine: KeyError: 'lost' (own.py:"),
    ],
)
def test_its_settings_are_checked_like_the_files_others(change: str, text: str, file: Path) -> None:
    with pytest.raises(ExperimentError) as error:
        load(str(file), [change])
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("AttachingRaises", "ZeroDivisionError: no layers (own.py:"),
        ("LayersInWords", "the metric 'ranks' of 'head' is the text 'few', not a number"),
        ("Idle", "Idle.make_step never calls step.backward()"),
    ],
)
def test_a_search_with_one_that_fails_at_once_writes_nothing(
    method: str,
    text: str,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "rehearse", rehearsed_here)
    with pytest.raises(SystemExit) as end:
        main("search", file, "--set", f"method={OWN}:{method}", "--out", tmp_path / "run")
    error = capsys.readouterr().err
    assert end.value.code == 2 and text in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
