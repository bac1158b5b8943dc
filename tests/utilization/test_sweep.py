"""Families of networks at several tolerances by one command, on real digits, and the pictures of what it keeps."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from oialr_hpo import figures
from oialr_hpo.mistake import Mistake
from oialr_hpo.utilization import sweep
from oialr_hpo.utilization.__main__ import main
from oialr_hpo.utilization.bubbles import bubbles
from oialr_hpo.utilization.kept import FILE, Kept, read, read_all
from oialr_hpo.utilization.published import published_at
from oialr_hpo.utilization.snapshot import snapshots

SMALL = ["model.arguments.width=0.0625", "training.epochs=1", "data.train_images=160"]
PLACES = ["vgg11_cifar-30", "vgg13_cifar-30"]


def command(out: Path, *more: str) -> list[str]:
    changes = [part for change in SMALL for part in ("--set", change)]
    networks = ["--networks", "vgg11_cifar", "vgg13_cifar", "--tolerance", "30"]
    return ["vgg_digits", *networks, "--images", "100", "--threads", "1", "--out", str(out), *changes, *more]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("oialr_hpo.training.rehearsal.rehearse", lambda *_, **__: [])
        patched.setattr("oialr_hpo.utilization.measuring.save", without_drawing)
        main(command(out))
    return out


def without_drawing(figure: Figure, path: Path) -> None:
    assert figure.axes and path.name.endswith(".png")


def results(swept: Path) -> list[Kept]:
    return [read(swept / place) for place in PLACES]


def test_every_network_is_cut_down(swept: Path) -> None:
    found = results(swept)
    assert [(each.network, each.tolerance) for each in found] == [("vgg11_cifar", 30), ("vgg13_cifar", 30)]
    assert [len(each.layers) for each in found] == [9, 11]
    assert all(each.parameters and each.flops and each.parameters_ratio < 1 for each in found)
    pictures = {file.name: file.read_bytes()[1:4] for file in swept.glob("*.png")}
    assert pictures == {"snapshots.png": b"PNG", "bubbles.png": b"PNG"}
    assert not list(swept.glob("*.pt"))


def test_what_is_done_is_not_done_again(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an analysis that is missing the network is not trained again; other settings are refused."""
    last = swept / PLACES[-1] / FILE
    before = json.loads(last.read_text())
    last.unlink()
    monkeypatch.setattr(sweep, "train", pytest.fail)
    monkeypatch.setattr("oialr_hpo.training.rehearsal.rehearse", lambda *_, **__: [])
    for home in ("snapshot", "measuring"):
        monkeypatch.setattr(f"oialr_hpo.utilization.{home}.save", without_drawing)
    main(command(swept))
    assert "vgg13_cifar at" in (printed := capsys.readouterr().out) and "vgg11_cifar at" not in printed
    timed = ("seconds", "passes")
    again = json.loads(last.read_text())
    assert {key: again[key] for key in again if key not in timed} == {
        key: before[key] for key in before if key not in timed
    }
    monkeypatch.setattr(sweep, "image_task", pytest.fail)
    main(command(swept))
    capsys.readouterr()
    for changed in (["--images", "101"], ["--set", "training.epochs=2"], ["--finetune", "1"]):
        with pytest.raises(SystemExit, match="2"):
            main(command(swept, *changed))
        assert "holds results of other settings" in capsys.readouterr().err


def test_weights_of_one_network_are_not_for_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weights.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        main(command(tmp_path / "out", "--checkpoint", str(tmp_path / "weights.pt")))
    assert capsys.readouterr().err.startswith("error: --checkpoint holds one network's weights;")
    assert not (tmp_path / "out").exists()


def test_analyses_are_drawn_beside_each_other(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panel each and one of all; a bubble for each network and for each that it was cut down to."""
    capsys.readouterr()
    monkeypatch.setattr("oialr_hpo.utilization.snapshot.save", without_drawing)
    figures.main([*(str(swept / place) for place in PLACES), "--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in ("snapshots.png", "bubbles.png")]
    figures.main([str(swept), "--out", str(tmp_path)])  # all that is there
    assert read_all(swept) == [read(swept / place) for place in sorted(PLACES)]
    found = results(swept)
    together, *alone = snapshots(found).axes
    for axes, each in zip(alone, found, strict=True):
        weights, utilized = axes.get_lines()
        assert list(utilized.get_ydata()) == [layer.utilized_rank for layer in each.layers]
        assert list(weights.get_ydata()) == [layer.original_rank for layer in each.layers]
    assert [str(line.get_label()).split(":")[0] for line in together.get_lines()] == [each.label for each in found]
    loose = replace(found[0], tolerance=60.0, parameters_ratio=0.2, finetuned_accuracy=12.5)
    points = shown(bubbles([*found, loose]), 0)
    for each in (*found, loose):
        assert each.parameters and (each.parameters, each.original_accuracy) in points
        assert (each.parameters * each.parameters_ratio, each.reached) in points
    assert len(points) == 5


def shown(figure: Figure | None, panel: int) -> list[tuple[float, float]]:
    """Where its bubbles are."""
    assert figure
    return [tuple(each) for part in figure.axes[panel].collections for each in part.get_offsets()]  # type: ignore


def test_papers_rows_stand_beside(swept: Path) -> None:
    drawn = bubbles([replace(results(swept)[0], dataset="cifar10")])
    assert drawn and "in the paper" in drawn.axes[1].get_title("left")
    assert shown(drawn, 1)[-1] == pytest.approx((34, 1.0))
    vit = published_at("torchvision/vit_b_16", "imagenet", 0.5)
    assert vit and vit.accuracy == 79.9 and vit.mlu == 22.5
    assert published_at("vgg16_cifar", "digits", 0.1) is None


@pytest.mark.parametrize("without", [["network", "dataset", "tolerance", "parameters", "flops", "curves"]])
def test_files_of_older_versions(swept: Path, tmp_path: Path, without: list[str]) -> None:
    """They have a snapshot, by the name of their directory."""
    content = json.loads((swept / PLACES[0] / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({key: content[key] for key in content.keys() - set(without)}))
    old = read(tmp_path)
    assert old.label == tmp_path.name and bubbles([old]) is None
    assert len(snapshots([old]).axes) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"layers": []}),
        lambda text: json.dumps(json.loads(text) | {"parameters_ratio": "much"}),
        lambda text: text.replace('"utilized_rank": ', '"utilized_rank": -'),
    ],
)
def test_damaged_files_are_one_line(swept: Path, tmp_path: Path, damage: Any) -> None:
    (tmp_path / FILE).write_text(damage((swept / PLACES[0] / FILE).read_text()))
    with pytest.raises(Mistake, match="damaged; run the analysis again"):
        read(tmp_path)


def test_drawing_needs_no_torch() -> None:
    modules = [
        "figures",
        "utilization.__main__",
        "utilization.snapshot",
        "utilization.bubbles",
        "utilization.layer_figure",
    ]
    code = f"import sys, {', '.join(f'oialr_hpo.{module}' for module in modules)}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
