"""Mistakes of an experiment and of a task are one line, before anything is written."""

from pathlib import Path
from typing import Any

import pytest

from oialr_hpo.experiment import Experiment, load, prepare_data
from oialr_hpo.mistake import Mistake
from oialr_hpo.training import rehearsal
from oialr_hpo.training.rehearsal import rehearse

OWN = """
task: {task}
data: {{}}
model: {{}}
training: {{epochs: 3, batch_size: 16}}
schedule: {{lr: 1e-2}}
score: {{minimize: error}}
"""


def rehearsed(experiment: Experiment, split: Any = "validation") -> list[dict[str, float]]:
    prepare_data(experiment, None)
    return list(rehearse(experiment, seed=0, split=split))


def rehearsed_here(
    experiment: Experiment, threads: int, data_dir: Any, splits: Any = ("validation",), stop: Any = None
) -> None:
    """In the place of `preflight.rehearse`: without a process of its own."""
    for split in splits:
        list(rehearse(experiment, seed=0, split=split))


def own(task: str, directory: Path, *changes: str) -> Experiment:
    file = directory / "own.yaml"
    file.write_text(OWN.format(task=task))
    return load(str(file), changes)


def test_what_is_right_gives_its_metrics(tmp_path: Path) -> None:
    ready, record = rehearsed(load("vit_digits"))
    assert not ready and {"top1", "error", "trainable_percent", "train_loss"} < record.keys()
    assert record["step"] == 1 and 0 <= record["error"] <= 1
    _, record = rehearsed(own("tests.mistaken:Right", tmp_path))
    assert {"error", "train_loss"} < record.keys()
    _, record = rehearsed(own("tests.mistaken:OtherTestMetrics", tmp_path, "score.minimize=test_error"), split="test")
    assert "test_error" in record
    _, record = rehearsed(load("vit_digits", ["method=tests.methods.own:Glances"]))
    assert record["step"] == 1


@pytest.mark.parametrize("name", ["vit_digits", "autoformer_quick"])
def test_one_batch_is_evaluated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    inner = rehearsal.InSmall.evaluate

    def evaluate(self: rehearsal.InSmall, *arguments: Any) -> dict[str, float]:
        task = self._task
        whole = task.evaluate
        monkeypatch.setattr(
            task, "evaluate", lambda *args, batches=None: asked.append(batches) or whole(*args, batches)
        )
        return inner(self, *arguments)

    monkeypatch.setattr(rehearsal.InSmall, "evaluate", evaluate)
    rehearsed(load(name))
    assert asked == [1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["score.minimize=accuracy"], "score: there is no metric 'accuracy'; known: "),
        (["score.minimize=eror"], "score: there is no metric 'eror'; did you mean 'error'? known: "),
        (["score.minimize=device"], "score: there is no metric 'device'"),
        (["score.minimize=[error, accuracy]", "score.trainable_weight=0"], "score: there is no metric 'accuracy'"),
        (["constraints.foo={max: 1}"], "constraints: there is no metric 'foo'"),
        (
            ["constraints.trainable_percent={min: 9, max: 1}"],
            "constraints.trainable_percent: nothing is at least 9 and",
        ),
        (["constraints.trainable_percent={min: .nan}"], "constraints.trainable_percent: nothing is at least nan"),
        (["constraints.top1={max: -.inf}"], "constraints.top1: nothing is at least -inf and at most -inf"),
        (
            ["model.arguments.embed_dimm=48"],
            "model.arguments.embed_dimm: VisionTransformer has no such argument; did you",
        ),
        (["model.arguments.xyz=48"], "model.arguments.xyz: VisionTransformer has no such argument; it has img_size,"),
        (["model.arguments.num_heads=7"], "the network of VisionTransformer: AssertionError: dim should be divisible"),
        (
            ["model.arguments.num_classes=5"],
            "model: outputs of shape (64, 5) for 64 images do not tell 10 classes apart",
        ),
        (["model.arguments.in_chans=3"], "the first step of VisionTransformer: RuntimeError: Given groups=1"),
        (
            ["model.name=resnet18.no_such_tag", "model.arguments={}"],
            "the network of resnet18.no_such_tag: RuntimeError",
        ),
        (
            ["model.name=torchvision/resnet18", "model.arguments={in_chans: 1}"],
            "model.arguments.in_chans: ResNet has no such argument; it has block, layers, num_classes,",
        ),
        (["data.std=[0]"], "data.std.0: input should be greater than 0, not 0"),
        (["training.batch_size=100000"], "training.batch_size 100000 exceeds the 1150 training images; lower it"),
        (["data.validation_fraction=1e-6"], "leaves none for validation; raise it"),
        (["data.validation_fraction=0.99999"], "leaves none for training; lower it"),
        (["data.train_images=5000"], "data.train_images 5000 exceeds the 1150 training images; lower it"),
        (["data.mean=[0.1, 0.2]"], "data.mean has 2 values for 1 channels; give as many"),
        (["data.auto_augment=nothing"], "the data: auto_augment 'nothing' is not offered"),
        (["schedule.warmup=5000"], "schedule.warmup (5000 steps) and schedule.cooldown (7) fill the whole run of 204"),
        (["task=oialr_hpo.runs.trial:Trial"], "'oialr_hpo.runs.trial:Trial' is no task: it has no class Settings"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_mistakes_of_an_experiment(changes: list[str], said: str) -> None:
    with pytest.raises(Mistake) as caught:
        rehearsed(load("vit_digits", changes))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("function", "is no task: it is no class but function; see oialr_hpo.tasks.Task"),
        ("NoSettings", "is no task: it has no class Settings that extends oialr_hpo.tasks.TaskSettings"),
        ("OtherSettings", "is no task: it has no class Settings that extends oialr_hpo.tasks.TaskSettings"),
        ("SettingsThatRaise", "task: tests.mistaken:SettingsThatRaise: KeyError: 'lost' (mistaken.py:"),
        ("DataThatRaises", "task: tests.mistaken:DataThatRaises: RuntimeError: no disk (mistaken.py:"),
        ("NoEvaluate", "is no task: it has no evaluate;"),
        ("OnlyTheProtocol", "is no task: it has no build_model, train_batches, loss, evaluate;"),
        ("OtherConstructor", "is no task: __init__: got an unexpected keyword argument 'seed'"),
        ("OtherArguments", "is no task: train_batches: too many positional arguments"),
        ("Rihgt", "module tests.mistaken has no Rihgt; did you mean 'Right'?"),
        ("NoStepsPerEpoch", "task: tests.mistaken:NoStepsPerEpoch has no steps_per_epoch"),
        ("NoSteps", "has 0 steps in an epoch: training.batch_size 16 exceeds the data; lower it"),
        ("NoBatches", "data: train_batches gives no batch"),
        ("NoNetwork", "task: build_model gives NoneType, not a torch.nn.Module"),
        ("Untrainable", "task: build_model gives a network without parameters that can be trained"),
        ("Exits", "the network: SystemExit: 3 (mistaken.py:"),
        ("VectorLoss", "task: loss gives a tensor of shape (16,), not a scalar that depends on the network"),
        ("DetachedLoss", "task: loss gives a tensor of shape (), not a scalar that depends on the network"),
        ("LossIsNaN", "the loss of the first batch, before any step, is no finite number"),
        ("WrongShapes", "the first step: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("TooLarge", "out of memory in the network; lower training.batch_size, or choose a smaller network"),
        ("MetricsAreText", "'error'"),
        ("EvaluationRaises", "the evaluation: ZeroDivisionError: integer division by zero (mistaken.py:"),
    ],
    ids=lambda each: each.split(" ")[0],
)
def test_mistakes_of_a_users_task(task: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Mistake) as caught:
        rehearsed(own(f"tests.mistaken:{task}", tmp_path))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def f(:", "cannot be imported: SyntaxError: invalid syntax (written.py:1)"),
        ("x = 1\n1 / 0", "cannot be imported: ZeroDivisionError: division by zero (written.py:2)"),
        ("raise SystemExit(1)", "cannot be imported: SystemExit: 1 (written.py:1)"),
        ("import no_such_package_here", "No module named 'no_such_package_here'; written needs it, install it"),
        (None, "No module named 'written'; is its directory on PYTHONPATH?"),
    ],
)
def test_modules_that_do_not_import(
    content: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "written.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Mistake, match="own.yaml: task: 'written:Task'") as caught:
        own("written:Task", tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18", "local-dir:/tmp/network", "timm:resnet18", "hf-hub:x/y"],
)
def test_networks_behind_a_hub_are_refused(name: str) -> None:
    """Whether timm has been imported or not."""
    from oialr_hpo.tasks.image_classification.network_names import check_network_name

    with pytest.raises(ValueError, match="a network of a hub or a directory cannot be searched") as caught:
        check_network_name(name)
    assert ("such as 'resnet18" in str(caught.value)) == ("resnet18" in name)
    with pytest.raises(Mistake, match="model.name"):
        rehearsed(load("vit_digits", [f"model.name={name}", "model.arguments={}"]))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_evaluation_that_takes_long_is_left(split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PATIENCE", 0.5)
    experiment = own("tests.mistaken:Patient", tmp_path, "score.minimize=unknown")
    assert rehearsed(experiment, split) == [{}]
