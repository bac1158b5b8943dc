"""One call gives a network back: from an experiment file, from weights beside it, or from weights alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import oialr_hpo
from oialr_hpo import Mistake, experiment, train
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.tasks.image_classification import task as images
from oialr_hpo.training.objective import build_task
from tests.tiny_task import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`best.yaml`, and `best.safetensors` of a training of it."""
    directory = tmp_path_factory.mktemp("trained")
    (directory / "best.yaml").write_text(yaml.safe_dump(tiny().fixed().dump()))
    train.main([str(directory / "best.yaml"), "--threads", "1", "--weights", str(directory / "best.safetensors")])
    return directory


def low_rank(network: nn.Module) -> bool:
    return any(isinstance(module, LowRank) for module in network.modules())


def measured(network: nn.Module) -> float:
    task: Any = build_task(tiny(), seed=0, device=torch.device("cpu"), data_dir=None)
    with torch.no_grad():
        return float(task.evaluate(network, "validation")["mse"])


@pytest.mark.parametrize("given", [["best.yaml"], ["best.safetensors"], ["best.yaml", "best.safetensors"]])
def test_the_trained_network_comes_back(given: list[str], trained: Path) -> None:
    state = torch.get_rng_state()
    network = oialr_hpo.load(*(trained / name for name in given), merge=False)
    merged = oialr_hpo.load(*(str(trained / name) for name in given))
    assert torch.equal(torch.get_rng_state(), state)
    with safe_open(trained / "best.safetensors", "pt") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
    assert not network.training and not merged.training and low_rank(network) and not low_rank(merged)
    assert {name: m.rank for name, m in network.named_modules() if isinstance(m, LowRank)} == told["ranks"]
    assert measured(network) == pytest.approx(told["metrics"]["mse"], rel=1e-5)
    assert measured(merged) == pytest.approx(told["metrics"]["mse"], rel=1e-4)


def test_weights_beside_a_file_are_those_of_its_settings(trained: Path, tmp_path: Path) -> None:
    weights = (trained / "best.safetensors").read_bytes()
    (tmp_path / "best.safetensors").write_bytes(weights)
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(tiny(**{"oialr.cutoff": 0.1}).fixed().dump()))
    with pytest.raises(Mistake, match=r"with oialr.cutoff: 0.5, best.yaml says 0.1; .* weights="):
        oialr_hpo.load(tmp_path / "best.yaml")
    assert low_rank(oialr_hpo.load(tmp_path / "best.yaml", tmp_path / "best.safetensors", merge=False))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(tiny(**{"model.batch_norm": False}).fixed().dump()))
    with pytest.raises(Mistake, match=r"best.safetensors does not fit the network of other.yaml: .*norm.running_mean"):
        oialr_hpo.load(tmp_path / "other.yaml", tmp_path / "best.safetensors")


def test_without_weights_it_is_the_network_that_a_training_begins_with(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(tiny(seed=3).fixed().dump()))
    loaded = oialr_hpo.load(tmp_path / "file.yaml")
    task = build_task(tiny(), seed=3, device=torch.device("cpu"), data_dir=None)
    torch.manual_seed(3)
    begun = task.build_model().state_dict()
    assert loaded.training and all(torch.equal(value, begun[name]) for name, value in loaded.state_dict().items())
    exported = tiny().fixed().model_copy(update={"evidence": {"score": 1.0}})
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(exported.dump()))
    with pytest.warns(UserWarning, match=r"no file.safetensors lies beside it: its network is untrained"):
        oialr_hpo.load(tmp_path / "file.yaml")


@pytest.mark.parametrize("name", ["vit_digits", "autoformer_quick"])
def test_a_built_in_task_needs_no_data_for_its_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = oialr_hpo.load(name)
    task = build_task(experiment.load(name), seed=0, device=torch.device("cpu"), data_dir=None)
    monkeypatch.setattr("oialr_hpo.training.loading.build_task", pytest.fail)
    monkeypatch.setattr(images, "load_images", pytest.fail)
    again, built = oialr_hpo.load(name).state_dict(), task.build_model().state_dict()
    assert {key: value.shape for key, value in again.items()} == {key: value.shape for key, value in built.items()}
    assert all(torch.equal(value, again[key]) for key, value in loaded.state_dict().items())


def test_what_cannot_be_loaded_is_one_line(trained: Path, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\0" * 20)
    for given, said in {
        ("foreign.safetensors",): "does not say which experiment its weights are of; name it too",
        ("damaged.safetensors",): "holds no weights that can be read",
        ("best.safetensors",): "no such file",
        ("foreign.safetensors", "damaged.safetensors"): "holds weights already",
    }.items():
        with pytest.raises(Mistake, match=said) as caught:
            oialr_hpo.load(*(tmp_path / name for name in given))
        assert "\n" not in str(caught.value)
    with pytest.raises(Mistake, match="no experiment 'vit_digit'; did you mean 'vit_digits'?"):
        oialr_hpo.load("vit_digit")
