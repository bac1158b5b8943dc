"""Tables of searches without a network, beside the paper's."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from oialr_hpo import search
from oialr_hpo.experiment import load
from oialr_hpo.reproduce.comparison import METHODS, Comparison, Measured, Row
from oialr_hpo.reproduce.markdown import number
from oialr_hpo.reproduce.pairs import paired
from oialr_hpo.reproduce.published import published
from oialr_hpo.reproduce.variants import for_method, repeated
from oialr_hpo.reproduce.write import write
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import State

SEEDS = [1000, 1001, 1002]


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


PRINTED = {
    "resnet50_imagenet": {
        "OIALR": (-1.72, 82.55, 15.15), "DLRT": (-0.56, 54.10, 14.20), "PP": (-0.20, 44.20), "CP": (-1.40, 50.00),
        "SFP": (-0.20, 41.80), "ThiNet": (-1.50, 36.90), "RigL": (-2.20, 20.00),
    },
    "vgg16_imagenet": {
        "OIALR": (-1.53, 36.52, 4.77), "DLRT": (-2.19, 86.00, 78.40), "PP": (-0.19, 80.20), "CP": (-1.80, 80.00),
        "ThiNet": (-0.47, 69.04), "RNP": (-2.43, 66.67),
    },
    "vgg16_cifar": {
        "OIALR": (0.10, 27.05, 13.88), "DLRT": (-1.89, 56.00, 77.50), "GAL": (-1.87, 77.00), "LRNN": (-1.90, 60.00),
    },
}  # fmt: skip


def test_table_2_is_the_papers() -> None:
    table = published("table2")
    assert {*table.columns} >= {"top1_difference", "total_percent", "trainable_percent"}
    assert [*table.experiments] == [*PRINTED]
    for experiment, rows in table.experiments.items():
        load(experiment)
        assert [Row.of(name).label("oialr").upper() for name in rows] == [
            f"{method}, untuned".upper() for method in PRINTED[experiment]
        ]
        assert [tuple(row.values()) for row in rows.values()] == [*PRINTED[experiment].values()]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Dense and tuned rows of a search without a network; the others were never computed."""
    out = tmp_path_factory.mktemp("runs")
    experiment = load("vit_digits", ["trials=6"])
    searched = search.run(for_method(experiment), out=out / "search", objective="tests.objectives:bowl")

    def runs(name: str, objective: str) -> RunDirectory:
        return search.run(repeated(experiment, SEEDS), out=out / name, objective=objective)

    noisy, failing = "tests.objectives:noisy", "tests.objectives:fails"
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
    assert "![Pareto front](pareto.png)" in text and (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_not_computed_or_failed_is_shown_as_such(comparison: Comparison, tmp_path: Path) -> None:
    rows = {line.split(" | ")[0]: line for line in write("vit_digits", [comparison], tmp_path).splitlines()}
    assert "not computed" in rows["| dense, tuned"] and " ± " not in rows["| dense, tuned"]
    assert "failed" in rows["| OIALR, untuned"] and "always" in rows["| OIALR, untuned"]


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


def test_rows_are_compared_seed_by_seed(comparison: Comparison, tmp_path: Path) -> None:
    """The noisy objective gives every row the same numbers, seed by seed."""
    text = write("vit_digits", [comparison], tmp_path)
    assert "| OIALR, tuned against dense | +0.0000 | +0.0000 to +0.0000 | 3 |" in text
    (pair,) = json.loads((tmp_path / "table.json").read_text())["experiments"][0]["pairs"]
    assert pair["seeds"] == SEEDS and (pair["row"], pair["other"]) == ("tuned", "dense")


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=6))
def test_paired_differences_are_those_of_scipy(values: list[tuple[float, float]]) -> None:
    ours, theirs = (np.array(each) for each in zip(*values, strict=True))
    seeds = list(range(len(values)))
    rows = [
        {"method": name, "seeds": seeds, "metrics": {"error": {"values": each.tolist()}}}
        for name, each in (("dense", theirs), ("untuned", ours), ("tuned", ours), ("rigl, tuned", theirs))
    ]
    pairs = {(pair["row"], pair["other"]): pair for pair in paired(rows, "error")}
    assert [*pairs] == [("untuned", "dense"), ("tuned", "dense"), ("tuned", "untuned"), ("rigl, tuned", "dense")]
    assert pairs["tuned", "untuned"]["difference"] == 0 and pairs["rigl, tuned", "dense"]["interval"] == [0, 0]
    differences = ours - theirs
    assume(differences.std() > 1e-6)
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert pairs["untuned", "dense"]["interval"] == pytest.approx([expected.low, expected.high], abs=1e-9)
    assert pairs["untuned", "dense"]["difference"] == pytest.approx(differences.mean(), abs=1e-9)


def test_selection_bias_is_shown(comparison: Comparison, tmp_path: Path) -> None:
    text = write("vit_digits", [comparison], tmp_path)
    won = best(comparison.rows["tuned"].searched.trials())[0]  # type: ignore[union-attr]
    assert f"| OIALR, tuned | {won.score:.4f} (seed {won.seed}, best of 6) |" in text


def test_failed_trainings_count_as_done(comparison: Comparison) -> None:
    failed = comparison.rows["untuned"].tested.trials()
    assert [trial.state for trial in failed] == [State.FAILED] * 3


@pytest.mark.parametrize(
    ("metric", "mean", "std", "text"),
    [
        ("trainable_parameters", 42684682.0, 1234.5, "42,684,682 ± 1,234"),
        ("accuracy", 0.93126, 0.00213, "0.9313 ± 0.0021"),
        ("top1", 93.126, 0.213, "93.13 ± 0.21"),
        ("loss", 1.23456, None, "1.2346"),
    ],
)
def test_a_table_keeps_the_digits_that_a_number_has(metric: str, mean: float, std: float | None, text: str) -> None:
    assert number(metric, {"mean": mean, "std": std}) == text
