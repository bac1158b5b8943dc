"""Trainings that are kept on disk go on where they were interrupted."""

import io
import signal
import sys
from pathlib import Path

import pytest

from oialr_hpo import search, train
from oialr_hpo.experiment import load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from tests.training.test_training import SMALL


class Interrupting(io.StringIO):
    """Standard output that sends this process a signal when the second epoch is printed."""

    def write(self, text: str) -> int:
        if "epoch 2/" in text:
            signal.raise_signal(signal.SIGUSR1)
        return super().write(text)


def test_a_training_that_is_interrupted_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [*SMALL, "training.epochs=4"]
    options = [part for change in changes for part in ("--set", change)]
    arguments = ["vit_digits", *options, "--seeds", "3", "4", "--threads", "1", "--out", str(tmp_path)]

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "stdout", Interrupting())
        train.main(arguments)
    assert ended.value.code == search.INTERRUPTED
    (before,) = RunDirectory.open(tmp_path).trials()
    assert before.state is State.INTERRUPTED and before.seed == 3 and len(before.epochs) == 2
    train.main([*arguments, "--resume"])
    trials = RunDirectory.open(tmp_path).trials()
    assert [(trial.number, trial.seed, len(trial.epochs)) for trial in trials] == [(0, 3, 4), (1, 4, 4)]
    assert trials[0].score == train.train(load("vit_digits", changes).fixed(), 3, 1, None, "validation").score
    assert not list((tmp_path / "checkpoints").iterdir())
    train.main([*arguments, "--resume"])
    assert RunDirectory.open(tmp_path).trials() == trials
