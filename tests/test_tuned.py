"""The settings that ship as tuned: each was found by a search, says so, and trains."""

from pathlib import Path

import pytest

from oialr_hpo.experiment import Experiment, load, shipped
from oialr_hpo.tasks import DataError

TUNED = sorted(shipped().glob("tuned/*.yaml"))


def test_there_are_some() -> None:
    assert TUNED


@pytest.mark.parametrize("file", TUNED, ids=lambda file: file.stem)
def test_it_says_where_it_comes_from(file: Path) -> None:
    heading = [line for line in file.read_text().splitlines() if line.startswith("#")]
    experiment = load(f"tuned/{file.stem}")
    evidence = experiment.evidence
    assert evidence and evidence["split"] == "validation"
    assert f"Trial {evidence['trial']} of the search" in heading[0]
    assert any(line.startswith("# found by: ") for line in heading) and any("test split" in line for line in heading)
    assert {"torch", "oialr_hpo"} <= set(evidence["packages"]) and evidence["commit"] in "\n".join(heading)
    assert not experiment.search and evidence["searched"]


@pytest.mark.parametrize("file", TUNED, ids=lambda file: file.stem)
def test_one_step_of_it_trains(file: Path, request: pytest.FixtureRequest) -> None:
    experiment = load(f"tuned/{file.stem}")
    try:
        step(experiment, None)
    except DataError:
        step(experiment, request.getfixturevalue("data_dir"))


def step(experiment: Experiment, data_dir: Path | None) -> None:
    import torch

    from oialr_hpo.methods import Loop
    from oialr_hpo.methods.oialr import OIALR
    from oialr_hpo.tasks import load_task
    from oialr_hpo.training.loop import attach, make_optimizer

    task_class = load_task(experiment.task)
    settings = task_class.Settings.model_validate({"data": experiment.data, "model": experiment.model})
    where = {"device": torch.device("cpu"), "data_dir": data_dir}
    task = task_class(settings, batch_size=2, seed=0, split="validation", **where)
    torch.manual_seed(0)
    model = task.build_model()
    optimizer = make_optimizer(model, experiment.training, experiment.schedule.lr)
    method = attach(experiment.with_settings({"oialr.delay": 1}), Loop(model, optimizer, task.loss, 2, 2, [], iter))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = task.loss(model, next(iter(task.train_batches(1))))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert any((now != then).any() for now, then in zip(model.parameters(), before, strict=True))
    if isinstance(method, OIALR):
        method.oialr.step()
        assert method.layers()
