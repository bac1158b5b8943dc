"""Trainings whose steps are compiled."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from oialr_hpo.experiment import load
from oialr_hpo.mistake import Mistake
from oialr_hpo.training.objective import evaluate
from oialr_hpo.training.rehearsal import rehearse

SMALL = ["training.epochs=4", "data.train_images=320", "oialr.delay=7", "oialr.frequency=2", "oialr.cutoff=0.3"]
MADE_ANEW = 6
"""Compilations at most, of two blocks and seven updates: where layers turn low-rank or pass to their factors."""


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler, which torch.compile needs")
def test_a_compiled_training_gives_nearly_the_same_numbers_with_few_compilations(tmp_path: Path) -> None:
    """And to the bit its own, when it is interrupted and another process goes on."""
    from torch._dynamo.utils import counters

    plain = load("vit_digits", SMALL).fixed()
    compiled = plain.with_settings({"training.compile": True})
    expected = list(evaluate(plain, seed=1))
    before = counters["stats"]["unique_graphs"]
    whole = list(evaluate(compiled, seed=1))
    assert 1 < counters["stats"]["unique_graphs"] - before <= MADE_ANEW
    assert len({str(record["ranks"]) for record in whole}) == 4
    for name in ("train_loss", "loss"):
        assert [record[name] for record in whole] == pytest.approx([record[name] for record in expected], rel=0.02)
    first = evaluate(compiled, seed=1, checkpoint=tmp_path / "checkpoint.pt")
    records = [next(first), next(first)]
    with pytest.raises(StopIteration):
        first.send("interrupt")
    torch._dynamo.reset()  # as in another process, nothing is compiled
    records += evaluate(compiled, seed=1, checkpoint=tmp_path / "checkpoint.pt")
    for name in ("train_loss", "loss", "ranks"):
        assert [record[name] for record in records] == [record[name] for record in whole]


def test_without_a_compiler_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(Mistake, match="^training.compile: no C\\+\\+ compiler; install g\\+\\+, .*compile=false$"):
        list(rehearse(load("vit_digits", ["training.compile=true"]), seed=0))
