"""A metric is declared in one place, which whatever shows it follows."""

from pathlib import Path

import pytest

from oialr_hpo import search
from oialr_hpo.experiment.metrics import METRICS, Metric, Place, shown_metrics
from oialr_hpo.reproduce.markdown import number
from oialr_hpo.runs.exported import export
from oialr_hpo.runs.summary import summary

RECORD = {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "parameters": 10, "device": "cpu", "seconds": 1.0, "own": 3.0}


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("trials", ["parameters", "own"]),
        ("seeds", ["train_loss", "parameters", "seconds", "own"]),
        ("epoch", ["lr", "train_loss"]),
        ("export", []),
    ],
)
def test_numbers_are_shown_where_they_are_declared_to_be(place: Place, names: list[str]) -> None:
    """A task's own metric, which is not declared, stands in the tables."""
    assert shown_metrics(RECORD, place) == names


def test_status_export_and_comparison_follow_a_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = search.run("vit_digits", changes=["trials=2"], out=tmp_path / "run", objective="tests.objectives:bowl")
    name = "trainable_percent"
    assert name in summary(run)
    monkeypatch.setitem(METRICS, name, Metric(name, decimals=1))
    (file,) = export(run)
    heading = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert name not in summary(run) and not any(name in line for line in heading)
    assert number(name, {"mean": 12.345, "std": None}) == "12.3"
