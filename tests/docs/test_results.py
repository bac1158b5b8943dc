"""The measured page says what the run directories in docs/results say."""

from pathlib import Path
from statistics import fmean, stdev

import pytest

from oialr_hpo.reproduce.markdown import number
from oialr_hpo.runs.directory import RunDirectory
from tests.docs.shown import ROOT

TESTED = sorted((ROOT / "docs" / "results").glob("*/*/*-test"))


@pytest.mark.parametrize("path", TESTED, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_row_is_that_of_its_trainings(path: Path) -> None:
    run = RunDirectory.open(path)
    metric = {"image_classification": "top1", "forecasting": "mse"}[run.experiment.task]
    values = [trial.metrics[metric] for trial in run.trials() if trial.state.final]
    row = number(metric, {"mean": fmean(values), "std": stdev(values)})
    assert row in (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
