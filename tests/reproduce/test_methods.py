"""Methods beside each other: table 2, with made-up trainings; and a step of its ImageNet rows."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

from oialr_hpo import reproduce
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import load
from oialr_hpo.methods import METHODS
from oialr_hpo.mistake import Mistake
from oialr_hpo.reproduce import runner
from oialr_hpo.reproduce.choosing import compare, new, rows
from oialr_hpo.reproduce.comparison import Measured, Row
from oialr_hpo.reproduce.published import published
from oialr_hpo.reproduce.variants import RATES
from oialr_hpo.reproduce.write import write
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.training import rehearsal

TABLE_2 = published("table2").experiments


def test_table_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], made_up: None) -> None:
    command = ["vgg16_cifar", "--budget", "0.01", "--seeds", "7", "8", "--methods", "dense", "rigl,tuned"]
    command += ["--out", str(tmp_path)]
    reproduce.main([*command, "-v"])
    printed = capsys.readouterr().out
    assert "| RigL, tuned | 0.1250 ± 0.0071 † | 87.50 ± 0.71 † |" in printed
    assert f"{tmp_path / 'vgg16_cifar/search-rigl'}\n" in printed and "#0 begins" in printed and "[3/3]" in printed
    directory, folders = tmp_path / "vgg16_cifar", ("search-rigl", "dense-test", "rigl-tuned-test", "rigl-tuned-again")
    assert {path.name for path in directory.iterdir()} == {*folders}
    searched, dense, tested, again = (RunDirectory.open(directory / folder) for folder in folders)
    assert searched.experiment.method == "rigl" and len(searched.trials()) == searched.experiment.trials == 3
    assert "rigl.density" in searched.experiment.search and "oialr.cutoff" not in searched.experiment.search
    assert [trial.settings for trial in tested.trials()] == [trial.settings for trial in dense.trials()]
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    reproduce.main(command)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == files

    measured = {"dense": Measured(dense), "untuned": Measured(dense), "rigl, tuned": Measured(tested, searched, again)}
    compared = [compare(name, rows_, None, [], 0.01)[0] for name, rows_ in TABLE_2.items()]
    for comparison in compared:
        comparison.rows = measured
    printed = write("table2", compared, tmp_path)
    for experiment in json.loads((tmp_path / "table.json").read_text())["experiments"]:
        table = {row["method"]: row for row in experiment["rows"]}
        assert [*table][:4] == ["dense", "untuned", "tuned", "dense, tuned"]
        assert table["tuned"]["state"] == table["dlrt, untuned"]["state"] == "not computed"
        for name, paper in TABLE_2[experiment["name"]].items():
            assert {metric: cell["mean"] for metric, cell in table[name]["paper"].items()} == paper
        if "rigl, tuned" in table:
            assert table["rigl, tuned"]["metrics"]["top1_difference"]["values"] == [-5, -5]
        difference = table["untuned"]["metrics"]["top1_difference"]
        assert difference["mean"] == 0 and difference["differs_from_paper"]
    assert "| RigL, tuned | 87.50 ± 0.71 † | -5.00 ± 0.00 † | 20.00 ± 0.00 |" in printed
    if "rnp" not in METHODS.names():
        assert "| RNP, untuned | not built |" in printed


def test_a_method_of_ones_own(tmp_path: Path, made_up: None) -> None:
    """With the lines of its search, which are no one else's."""
    own = "tests.methods.own:TopK"
    lines = ["search.topk.keep={float: [0.1, 0.9]}", "topk.delay=0.5"]
    comparison, wanted = compare("vgg16_cifar", {}, [*rows("rigl"), *rows(f"{own}, tuned")], lines, 0.01)
    assert wanted == ["rigl, untuned", "rigl, tuned", f"{own}, tuned"]
    assert compare("vgg16_cifar", {}, rows(own), [f"method={own}", *lines], 1)[1] == ["untuned", "tuned"]
    row = Row.of(wanted[2])
    assert row.label(comparison.method) == "TopK, tuned" and row.folder == "topk-tuned"
    searched = comparison.of(row)
    assert searched.method == own and searched.value("topk.delay") == 0.5
    assert {"topk.keep", "schedule.lr"} < searched.search.keys() and "oialr.cutoff" not in searched.search
    assert "topk.keep" not in comparison.of(Row("rigl", tuned=True)).search
    assert [each.method for each in new(comparison, tmp_path)] == ["oialr", "rigl", own]
    for folder in ("search-topk", "rigl-untuned-test"):
        (tmp_path / "vgg16_cifar" / folder).mkdir(parents=True)
    assert new(comparison, tmp_path) == []
    assert "\n| TopK, tuned |" in write("vgg16_cifar", [comparison], tmp_path)


def test_settings_that_another_comparison_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made_up: None
) -> None:
    """Tuned rows have them, with their rates multiplied like those of the others, and nothing is searched."""
    command = ["vit_cifar", "--budget", "0.01", "--seeds", "7", "8"]
    reproduce.main([*command, "--methods", "tuned", "--out", str(tmp_path / "narrow")])
    narrow = tmp_path / "narrow/vit_cifar"
    (winner,) = best(RunDirectory.open(narrow / "search-oialr").trials())
    there = [
        "--methods",
        "untuned",
        "tuned",
        "--tuned-in",
        str(narrow),
        "--rates",
        "0.5",
        "--out",
        str(tmp_path / "wide"),
    ]
    reproduce.main([*command, *there, "--set", "model.arguments.embed_dim=1536"])
    assert {path.name for path in (tmp_path / "wide/vit_cifar").iterdir()} == {"untuned-test", "tuned-test"}
    untuned, tuned = (
        RunDirectory.open(tmp_path / f"wide/vit_cifar/{row}-test").experiment for row in ("untuned", "tuned")
    )
    assert untuned.value("model.arguments.embed_dim") == tuned.value("model.arguments.embed_dim") == 1536
    assert untuned.schedule.lr == load("vit_cifar").schedule.lr / 2
    for key, value in winner.settings.items():
        assert tuned.value(key) == (value / 2 if key in RATES else value)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| OIALR, tuned |")][-1:]
    assert f"none here; in {narrow / 'search-oialr'} 4 trials of" in row


def test_only_searches_that_are_there_can_be_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made_up: None
) -> None:
    with pytest.raises(SystemExit):
        reproduce.main(["vit_cifar", "--methods", "dense,tuned", "--tuned-in", str(tmp_path), "--out", str(tmp_path)])
    assert "search-dense holds no search; name the directory that has it" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_quiet_comparison_prints_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], made_up: None) -> None:
    options = ["--budget", "0.01", "--seeds", "7", "--methods", "dense", "--out", str(tmp_path)]
    reproduce.main(["vgg16_cifar", *options, "--quiet"])
    printed = capsys.readouterr()
    assert "| dense | 0.08" in printed.out and printed.out.startswith("\n#") and not printed.err
    assert "[1/1]" not in printed.out and "dense-test" not in printed.out and "watch " not in printed.out


def test_a_signal_at_the_end_of_a_search_ends_the_comparison(
    tmp_path: Path, made_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: Any, stop: StopRequest, **named: Any) -> RunDirectory:
        finished = whole(*arguments, stop=stop, **named)
        stop.received = "SIGINT"
        return finished

    command = ["vgg_digits", "--seeds", "7", "--methods", "dense", "rigl", "--out", str(tmp_path)]
    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="75"):
        whole = runner.search.run
        patched.setattr(runner.search, "run", run)
        reproduce.main(command)
    assert [path.name for path in (tmp_path / "vgg_digits").iterdir()] == ["dense-test"]
    reproduce.main(["rigl,untuned" if word == "rigl" else word for word in command])
    assert {path.name for path in (tmp_path / "vgg_digits").iterdir()} == {"dense-test", "rigl-untuned-test"}


def test_every_search_has_the_same_budget_and_its_methods_lines() -> None:
    comparison, wanted = compare("vgg16_cifar", TABLE_2["vgg16_cifar"], None, ["rigl.end=0.5"], 0.01)
    there = [Row.of(name).method or "oialr" for name in TABLE_2["vgg16_cifar"]]
    there = [method for method in there if method in METHODS.names()]
    assert wanted[:4] == ["dense", "untuned", "tuned", "dense, tuned"] and len(wanted) == 2 + 2 * len(there)
    searched = {name: comparison.of(Row.of(name)) for name in wanted}
    assert {(each.trials, each.training.epochs) for each in searched.values()} == {
        (3, 3)
    }  # OIALR's two starts, and one
    for name, each in searched.items():
        own = Row.of(name).method or "oialr"
        assert each.method == own and not each.dense_baseline
        assert {"schedule.lr", "training.weight_decay"} < each.search.keys()
        assert {key.partition(".")[0] for key in each.search} <= {"schedule", "training", own}
    assert compare("vgg16_cifar", {}, rows("rigl"), ["rigl.end=0.5"], 1)[0].others["rigl"].value("rigl.end") == 0.5


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dense", ["dense"]),
        ("dense,tuned", ["dense, tuned"]),
        ("untuned", ["untuned"]),
        ("rigl", ["rigl, untuned", "rigl, tuned"]),
        ("rigl, tuned", ["rigl, tuned"]),
    ],
)
def test_rows_are_named(text: str, names: list[str]) -> None:
    assert [row.name for row in rows(text)] == names
    assert [Row.of(name) for name in names] == rows(text)


def test_the_experiments_own_method_has_the_same_rows_by_either_name(tmp_path: Path) -> None:
    comparison, wanted = compare("vit_digits", {}, [*rows("rigl"), *rows("oialr")], ["method=rigl"], 1)
    assert wanted == ["untuned", "tuned", "oialr, untuned", "oialr, tuned"] and [*comparison.others] == ["oialr"]
    assert [Row.of(name).label(comparison.method) for name in wanted[1:3]] == ["RigL, tuned", "OIALR, untuned"]
    assert [each.method for each in new(comparison, tmp_path)] == ["rigl", "oialr"]
    (tmp_path / "vit_digits/search-oialr").mkdir(parents=True)
    assert new(comparison, tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "rigle"], "argument --methods: no row 'rigle'; did you mean 'rigl'? choose untuned, tuned, "),
        (["--methods", "own:TopK"], "argument --methods: 'own:TopK': No module named 'own'; is its directory on "),
        (["--methods", "rigl, best"], "argument --methods: no row 'rigl, best'; choose untuned, tuned, "),
        ([], "imagenet"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="2"):
        reproduce.main(["table2", *arguments, "--out", str(out), "--data-dir", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and len(line) <= 300 and not out.exists()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageNet of two classes."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in ("n01440764", "n01443537"):
            (root / "imagenet" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(root / "imagenet" / part / name / f"{number}.JPEG")
    return root


def narrow_vgg16_bn(num_classes: int, **_: Any) -> nn.Module:
    """At a sixteenth of its width: the whole one's first linear layer has 102,760,448 weights."""
    width = [size if size == "M" else size // 16 for size in torchvision.models.vgg.cfgs["D"]]  # type: ignore[operator]
    with torch.device("meta"):
        network = VGG(nn.Identity(), num_classes, init_weights=False)
    network.features = make_layers(width, batch_norm=True)  # type: ignore[arg-type]
    network.classifier[0], network.classifier[3] = nn.Linear(32 * 49, 256), nn.Linear(256, 256)
    network.classifier[6] = nn.Linear(256, num_classes)
    return network


class Narrow(Bottleneck):
    expansion = 1


def narrow_resnet50(num_classes: int, **_: Any) -> nn.Module:
    """A block a stage, with a quarter of its outputs and a sixteenth of its inner width."""
    return ResNet(Narrow, [1, 1, 1, 1], num_classes, width_per_group=4)


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("name", ["resnet50_imagenet", "vgg16_imagenet"])
def test_imagenet_rows_take_a_step(name: str, method: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (name, method) != ("resnet50_imagenet", "dense"):  # the whole network
        narrow = {"resnet50": narrow_resnet50, "vgg16_bn": narrow_vgg16_bn}
        monkeypatch.setattr(torchvision.models._api, "BUILTIN_MODELS", narrow)
    monkeypatch.setattr(rehearsal, "PATIENCE", math.inf)
    changes = ["data.image_size=32", "data.real_labels=null", "data.workers=1", "data.auto_augment=null"]
    changes += ["training.batch_size=2", "model.arguments.num_classes=2", "data.validation_fraction=0.25"]
    experiment = load(name, [*changes, f"method={method}"])
    try:
        _, record = rehearsal.rehearse(experiment, seed=0, data_dir=images)
    except Mistake as error:
        assert str(error).startswith(f"{method}: ") and f"{method}, untuned" not in TABLE_2[name]
        return
    assert record["step"] == 1 and math.isfinite(record["train_loss"]) and 0 < record["trainable_percent"] <= 200
