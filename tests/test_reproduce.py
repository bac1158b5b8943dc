"""Reproductions: real, but small, trainings on scikit-learn's digits; tables of searches without a network."""

import csv
import json
from pathlib import Path

import pytest

from oialr_hpo import reproduce, search
from oialr_hpo.comparison import METHODS, Comparison, Measured, published, write
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import State
from oialr_hpo.training.objective import evaluate

SMALL = ["training.epochs=2", "model.arguments.depth=1", "data.train_images=160", "oialr.delay=2", "oialr.frequency=1"]
SEEDS = [1000, 1001, 1002]


def test_a_tuned_row_is_searched_trained_and_tested_and_nothing_is_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    first, second, third, last = reproduce.on_test_split(experiment, seed=99)
    assert all("mse" not in record for record in (first, second, third))
    assert last["epoch"] == third["epoch"] == 3 and last["mse"] > 0
    assert last["mse"] == list(evaluate(experiment, seed=3, split="test"))[-1]["mse"]
    assert first["train_loss"] == next(evaluate(experiment, seed=3))["train_loss"]


def test_an_interrupted_test_run_is_not_scored() -> None:
    experiment = load("vit_digits", SMALL)
    records = reproduce.on_test_split(experiment, seed=0)
    next(records)
    with pytest.raises(StopIteration):
        records.send("stop")


def test_the_dense_search_has_the_same_budget_and_no_setting_of_oialr() -> None:
    for name in ("vit_cifar", "autoformer_ettm2_96", "vit_digits"):
        experiment = load(name)
        dense = reproduce.for_dense(experiment)
        assert dense.method == "dense" and dense.trials == reproduce.for_oialr(experiment).trials == experiment.trials
        assert dense.search and not any(key.startswith("oialr.") for key in dense.search)
        assert {} in [*dense.start_from] and not dense.dense_baseline
        assert dense.starts()[0] == {key: experiment.value(key) for key in dense.search}


def test_a_short_budget_shortens_epochs_and_trials() -> None:
    short = reproduce.shorten(load("vit_cifar"), 0.01)
    assert (short.training.epochs, short.trials) == (3, 4)  # the three starts and a proposal
    assert reproduce.shorten(load("vit_cifar"), 1.0) == load("vit_cifar")


@pytest.mark.parametrize("name", ["table3", "table4"])
def test_the_published_rows_are_the_papers(name: str) -> None:
    table = published(name)
    assert "arXiv:2401.08505" in table.source
    for experiment, rows in table.experiments.items():
        load(experiment)
        assert list(rows) == ["dense", "untuned", "tuned"]
        assert all(set(row) == set(table.columns) for row in rows.values())
    tuned = published("table3").experiments["vit_cifar"]["tuned"]
    assert (tuned["top1"], tuned["total_percent"]) == ([86.33, 0.71], 55.06)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Dense and tuned rows of a search without a network; the others were never computed."""
    out = tmp_path_factory.mktemp("runs")
    experiment = load("vit_digits", ["trials=6"])
    searched = search.run(reproduce.for_oialr(experiment), out=out / "search", objective="tests.objectives:bowl")

    def runs(name: str, objective: str) -> RunDirectory:
        return search.run(reproduce.repeated(experiment, SEEDS), out=out / name, objective=objective)

    noisy, failing = "tests.objectives:noisy", "tests.objectives:missing"
    tuned = Measured(runs("tuned", noisy), searched, runs("again", noisy))
    rows = {"dense": Measured(runs("dense", noisy)), "untuned": Measured(runs("untuned", failing)), "tuned": tuned}
    return Comparison("vit_digits", experiment, load("vit_digits"), rows)


def test_the_three_files_say_the_same(comparison: Comparison, tmp_path: Path) -> None:
    text = write("vit_digits", [comparison], tmp_path)
    assert text == (tmp_path / "table.md").read_text()
    content = json.loads((tmp_path / "table.json").read_text())
    with open(tmp_path / "table.csv", newline="") as file:
        lines = {(line["method"], line["metric"]): line for line in csv.DictReader(file)}
    for row in content["experiments"][0]["rows"]:
        for metric in content["columns"]:
            cell = row["metrics"].get(metric, {})
            assert lines[row["method"], metric]["mean"] == str(cell.get("mean", ""))
    dense = content["experiments"][0]["rows"][0]["metrics"]["error"]
    assert f"{dense['mean']:.4f} ± {dense['std']:.4f}" in text


def test_what_was_not_computed_or_failed_is_shown_as_such(comparison: Comparison, tmp_path: Path) -> None:
    rows = {line.split(" | ")[0]: line for line in write("vit_digits", [comparison], tmp_path).splitlines()}
    assert "not computed" in rows["| dense, tuned"] and " ± " not in rows["| dense, tuned"]
    assert "failed" in rows["| OIALR, untuned"] and "has no missing" in rows["| OIALR, untuned"]


def test_differences_beyond_the_spread_are_marked(comparison: Comparison, tmp_path: Path) -> None:
    """The noisy objective gives the same error in every row, up to the seeds' noise, and the paper's is far off."""
    name = comparison.experiment_name
    comparison.experiment_name = "vit_cifar"  # as if these were the paper's
    try:
        write("table3", [comparison], tmp_path)
    finally:
        comparison.experiment_name = name
    rows = json.loads((tmp_path / "table.json").read_text())["experiments"][0]["rows"]
    tuned = rows[METHODS.index("tuned")]
    assert tuned["metrics"]["trainable_percent"]["differs_from_paper"]
    assert not tuned["metrics"]["error"]["differs_from_dense"] and not tuned["metrics"]["error"]["differs_from_paper"]
    assert tuned["paper"]["top1"] == {"mean": 86.33, "std": 0.71}


def test_selection_bias_is_shown(comparison: Comparison, tmp_path: Path) -> None:
    text = write("vit_digits", [comparison], tmp_path)
    won = best(comparison.rows["tuned"].searched.trials())[0]  # type: ignore[union-attr]
    assert f"| OIALR, tuned | {won.score:.4f} (seed {won.seed}, best of 6) |" in text


def test_several_goals_have_no_winner_to_compare() -> None:
    with pytest.raises(ExperimentError, match="no trial is the best"):
        reproduce.load("vit_digits", ["score={minimize: [error, trainable_percent]}"])


def test_failed_trainings_count_as_done(comparison: Comparison) -> None:
    failed = comparison.rows["untuned"].tested.trials()
    assert [trial.state for trial in failed] == [State.FAILED] * 3
