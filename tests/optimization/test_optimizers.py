"""Optimizers by name, and of one's own: searched, trained again, refused in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from oialr_hpo import search, train
from oialr_hpo.experiment import ExperimentError, load, recorded
from oialr_hpo.export import export
from oialr_hpo.optimization.optimizers import optimizer_names
from oialr_hpo.training.objective import evaluate
from tests.tiny_task import tiny

OWN = "tests.own_optimization"
EXPERIMENT = f"""
task: tests.tiny_task:TinyTask
data: {{}}
model: {{}}
training: {{epochs: 2, batch_size: 16, optimizer_arguments: {{}}}}
schedule: {{lr: 0.01, min_lr: 0.001}}
oialr: {{delay: 4, frequency: 2}}
score: {{minimize: mse}}
search:
  training.optimizer: {{choices: [adamw, "{OWN}:SignDescent"]}}
  schedule.name: {{choices: [cosine, "{OWN}:falling"]}}
start_from: [{{training.optimizer: "{OWN}:SignDescent", schedule.name: "{OWN}:falling"}}]
trials: 1
"""


def test_every_optimizer_by_name_trains_through_the_change_over() -> None:
    assert {"adamw", "sgd", "lamb", "lion", "muon", "adopt", "nesterov"} < optimizer_names()
    for name in sorted(optimizer_names() - {"kron", "kronc", "kronw"}):  # which compile themselves for a minute
        experiment = tiny(**{"training.optimizer": name, "schedule.lr": 1e-3, "training.epochs": 2})
        *_, last = evaluate(experiment, seed=0)
        assert last["ranks"] and 0 <= last["mse"] < 10, name


def test_optimizers_are_known_without_torch() -> None:
    code = "import sys\nfrom oialr_hpo.experiment import load\nload('vit_digits', ['training.optimizer=lamb'])"
    subprocess.run([sys.executable, "-c", f"{code}\nassert not {{'torch', 'timm'}} & {{*sys.modules}}"], check=True)


def test_ones_own_are_searched_exported_and_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(EXPERIMENT)
    run = search.run(load(str(path)), out=tmp_path / "run", jobs=1)
    (trial,) = run.trials()
    assert [record["lr"] for record in trial.epochs] == [0.01, 0.01 + (0.001 - 0.01) / 2]
    exported = load(str(export(run)[0]))
    assert exported.training.optimizer == f"{OWN}:SignDescent" and exported.schedule.name == f"{OWN}:falling"
    assert exported.evidence is not None
    trained = train.train(exported, exported.seed, exported.evidence["threads"], None, "validation")
    assert trained.score == exported.evidence["score"] == trial.score


def test_a_record_is_read_where_they_are_missing() -> None:
    content = tiny().dump()
    content["training"]["optimizer"], content["schedule"]["name"] = "gone:Mine", "gone:rate"
    assert recorded(content, "experiment.yaml").schedule.name == "gone:rate"


def test_ones_own_gets_its_arguments_and_the_momentum() -> None:
    def course(**settings: object) -> list[float]:
        own = {"training.optimizer": f"{OWN}:SignDescent", "training.epochs": 1}
        return [record["train_loss"] for record in evaluate(tiny(**own | settings), seed=0)]

    usual = course()
    assert course(**{"training.momentum": 0.0}) != usual != course(**{"training.weight_decay": 0.5})
    assert course(**{"training.optimizer_arguments": {"scale": 0.5}, "schedule.min_lr": 0.01}) != usual
    with pytest.raises(ValueError, match=f"training.optimizer_arguments: {OWN}:SignDescent: .*argument 'beta'"):
        course(**{"training.optimizer_arguments": {"beta": 0.5}})
    with pytest.raises(ValueError, match=f"training.optimizer_arguments: {OWN}:Unlike: .*argument 'lr'"):
        course(**{"training.optimizer": f"{OWN}:Unlike"})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("training.optimizer=nowhere:Mine", "No module named 'nowhere'; is its directory on PYTHONPATH?"),
        (f"training.optimizer={OWN}:SignDecent", f"module {OWN} has no SignDecent; did you mean 'SignDescent'?"),
        (f"training.optimizer={OWN}:falling", f"'{OWN}:falling' is no optimizer: it is no class"),
        ("training.optimizer=pathlib:Path", "'pathlib:Path' is no optimizer: it does not extend torch.optim.Optimizer"),
        (
            "training.optimizer=:Mine",
            "':Mine' is neither a built-in optimizer (adamw, adam, sgd) nor package.module:Class",
        ),
        (
            "schedule.name=cosin",
            "no schedule 'cosin'; did you mean 'cosine'? choose cosine, halving, or package.module:",
        ),
        ("schedule.name=nowhere:mine", "No module named 'nowhere'; is its directory on PYTHONPATH?"),
        (f"schedule.name={OWN}:fallin", f"module {OWN} has no fallin; did you mean 'falling'?"),
        (
            f"schedule.name={OWN}:NUMBER",
            f"'{OWN}:NUMBER' is no schedule: it is no function but float; write rate(step,",
        ),
        (
            f"schedule.name={OWN}:of_epochs",
            f"'{OWN}:of_epochs' is no schedule: too many positional arguments; write rate",
        ),
        (f"search.training.optimizer={{choices: [adamw, '{OWN}:Sign']}}", f"module {OWN} has no Sign"),
    ],
)
def test_wrong_ones_are_found_with_the_file(change: str, word: str) -> None:
    with pytest.raises(ExperimentError) as error:
        load("vit_digits", [change])
    key = change.partition("=")[0]
    assert f"{key}: " in str(error.value) and word in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300
