"""Comparisons of made-up trainings."""

import pytest

from oialr_hpo import reproduce
from oialr_hpo.reproduce import runner

MADE_UP = "tests.objectives:by_method"


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings without a network or data, and no pictures."""
    monkeypatch.setattr("oialr_hpo.reproduce.picture.picture", lambda *_: None)
    monkeypatch.setattr(reproduce, "rehearse", lambda *_: None)
    monkeypatch.setattr("oialr_hpo.experiment.prepare_data", lambda *_: None)
    monkeypatch.setattr(runner, "ON_TEST_SPLIT", MADE_UP)
    monkeypatch.setattr(runner.Runner._run, "__defaults__", (MADE_UP,))
