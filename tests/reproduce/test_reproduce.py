"""Reproductions: real, but small, trainings on scikit-learn's digits."""

import json
from pathlib import Path

import pytest

from oialr_hpo import reproduce
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.reproduce import variants
from oialr_hpo.reproduce.comparison import METHODS
from oialr_hpo.reproduce.objectives import on_test_split
from oialr_hpo.reproduce.variants import for_dense, for_method, shorten
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.training.objective import evaluate

SMALL = ["training.epochs=2", "model.arguments.depth=1", "data.train_images=160", "oialr.delay=2", "oialr.frequency=1"]


def test_a_tuned_row_is_searched_trained_and_tested_and_nothing_is_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "rehearse", lambda *_: None)  # which test_preflight tests, in a process of its own
    options = [text for change in [*SMALL, "trials=3"] for text in ("--set", change)]
    command = ["vit_digits", *options, "--seeds", "7", "8", "--methods", "tuned", "--out", str(tmp_path)]
    reproduce.main(command)
    printed = capsys.readouterr().out
    (row,) = [row for row in printed.splitlines() if row.startswith("| OIALR, tuned |") and "trials" in row]
    assert "3 trials of 6 settings" in row and " ± " in row
    assert "| dense | not computed |" in printed and "Not at full scale: `data.train_images` 160" in printed

    content = json.loads((tmp_path / "table.json").read_text())
    measured = content["experiments"][0]["rows"][METHODS.index("tuned")]
    winner = best(RunDirectory.open(tmp_path / "vit_digits/search-oialr").trials())[0]
    tested = RunDirectory.open(tmp_path / "vit_digits/tuned-test").trials()
    assert measured["selection"]["won"] == winner.score
    assert measured["metrics"]["top1"]["values"] == [trial.metrics["top1"] for trial in tested]
    assert [trial.settings for trial in tested] == [{"seed": 7}, {"seed": 8}]
    assert not any("top1" in record for trial in tested for record in trial.epochs[:-1])

    (exported,) = (tmp_path / "vit_digits/search-oialr/best").iterdir()
    again = list(evaluate(load(str(exported)), seed=7, threads=tested[0].threads, split="test"))[-1]
    assert again["top1"] == tested[0].metrics["top1"] and again["loss"] == tested[0].metrics["loss"]

    written = RunDirectory.open(tmp_path / "vit_digits/tuned-test").environment["command"]
    assert "oialr_hpo.search" not in written

    files = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    reproduce.main(command)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == files
    assert capsys.readouterr().out.splitlines()[-3:] == printed.splitlines()[-3:]


def test_of_a_test_run_only_the_last_record_is_scored() -> None:
    """The forecasting task validates in every epoch, which must not be taken for the test."""
    changes = ["training.epochs=3", "data.train_windows=64", "data.validation_windows=64", "training.patience=null"]
    experiment = load("autoformer_quick", changes).with_settings({"seed": 3})
    first, second, third, last = on_test_split(experiment, seed=3)
    assert all("mse" not in record for record in (first, second, third))
    assert last["epoch"] == third["epoch"] == 3 and last["mse"] > 0
    assert last["mse"] == list(evaluate(experiment, seed=3, split="test"))[-1]["mse"]
    assert first["train_loss"] == next(evaluate(experiment, seed=3))["train_loss"]


def test_an_interrupted_test_run_is_not_scored() -> None:
    experiment = load("vit_digits", SMALL)
    records = on_test_split(experiment, seed=0)
    next(records)
    with pytest.raises(StopIteration):
        records.send("stop")


def test_the_dense_search_has_the_same_budget_and_no_setting_of_oialr() -> None:
    for name in ("vit_cifar", "autoformer_ettm2_96", "vit_digits"):
        experiment = load(name)
        dense = for_dense(experiment)
        assert dense.method == "dense" and dense.trials == for_method(experiment).trials == experiment.trials
        assert dense.search and not any(key.startswith("oialr.") for key in dense.search)
        assert {} in [*dense.start_from] and not dense.dense_baseline
        assert dense.starts()[0] == {key: experiment.value(key) for key in dense.search}


def test_a_short_budget_shortens_epochs_and_trials() -> None:
    short = shorten(load("vit_cifar"), 0.01)
    assert (short.training.epochs, short.trials) == (3, 4)  # the three starts and a proposal
    assert shorten(load("vit_cifar"), 1.0) == load("vit_cifar")


def test_several_goals_have_no_winner_to_compare() -> None:
    with pytest.raises(ExperimentError, match="no trial is the best"):
        variants.load("vit_digits", ["score={minimize: [error, trainable_percent]}"])
