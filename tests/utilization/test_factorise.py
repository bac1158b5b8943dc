"""Networks cut down to their utilized ranks, and the command, on real digits."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from oialr_hpo import train
from oialr_hpo.oialr import OIALR
from oialr_hpo.utilization import Accuracy, analyse, compact, factorise
from oialr_hpo.utilization.__main__ import main
from oialr_hpo.utilization.factorisation import densify, flops, parameters
from oialr_hpo.utilization.published import published
from tests.utilization.conftest import Batches

SMALL = ["model.arguments.depth=1", "training.epochs=2", "data.train_images=400"]


def test_the_factorised_network_is_the_projected_one(
    convolutional: nn.Module, batches: tuple[Batches, Batches]
) -> None:
    found = analyse(convolutional, batches[0], Accuracy(batches[1]), 0.5)
    accuracy, images = Accuracy(batches[1]), batches[1][0][0]
    thin = factorise(found.model, found.ranks)
    assert accuracy(thin) == pytest.approx(accuracy(found.model), abs=0.5)
    for layer in found.layers:
        two = thin.get_submodule(layer.name)
        assert two.down.weight.shape[0] == two.up.weight.shape[1] == max(1, layer.utilized_rank)
    before = thin(images)
    small = compact(thin)
    torch.testing.assert_close(small(images), before, rtol=1e-4, atol=1e-4)
    expected = sum(
        min(layer.utilized_rank * sum(layer.shape), layer.shape[0] * layer.shape[1]) for layer in found.layers
    )
    weights = sum(p.numel() for name, p in small.named_parameters() if p.dim() > 1)
    assert weights == expected < 0.8 * sum(p.numel() for p in convolutional.parameters() if p.dim() > 1)
    assert parameters(small) < parameters(convolutional) and flops(small, images) < flops(convolutional, images)


def test_fine_tuning_keeps_the_ranks(convolutional: nn.Module, batches: tuple[Batches, Batches]) -> None:
    thin = factorise(convolutional, {"4": 5, "9": 3})
    optimizer = torch.optim.SGD(thin.parameters(), lr=0.1)
    nn.functional.cross_entropy(thin(batches[0][0][0]), batches[0][0][1]).backward()
    optimizer.step()
    for name, r in (("4", 5), ("9", 3)):
        assert torch.linalg.matrix_rank(compact(thin).get_submodule(name).weight.flatten(1), rtol=1e-5) == r


def test_tied_layers_stay_tied() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    network[1].weight = network[0].weight
    thin = factorise(network, {"0": 2})
    assert thin[0].down.weight is thin[1].down.weight and thin[0].bias is not thin[1].bias
    assert parameters(thin) == 2 * 16 + 16


def test_networks_trained_by_oialr_become_dense() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16, 4)).eval()
    OIALR(network, delay=0, frequency=1)
    x = torch.randn(2, 3, 3, 3)
    expected = network(x)
    torch.testing.assert_close(densify(network)(x), expected)
    assert type(network[0]) is nn.Conv2d and type(network[2]) is nn.Linear


def test_the_papers_rows_are_found() -> None:
    vgg, vit, swin = (
        published("vgg16_cifar", "cifar10"),
        published("torchvision/vit_l_16", "imagenet"),
        published("swin_base_patch4_window7_224.ms_in22k", "imagenet"),
    )
    assert vgg and vgg.mlu == 44 and vit and vit.mlu == 20 and swin and swin.mlu == 66
    assert published("vit_base_patch32_224", "imagenet") == published("torchvision/vit_b_32", "imagenet")
    assert published("deit_small_patch16_224", "imagenet") and published("vgg16_cifar", "digits") is None


def test_the_command_analyses_what_train_has_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [part for change in SMALL for part in ("--set", change)]
    weights, out = tmp_path / "network.safetensors", tmp_path / "out"
    train.main(["vit_digits", "--set", "oialr.delay=5", *changes, "--weights", str(weights)])  # ends in low rank
    trained = capsys.readouterr().out
    arguments = ["vit_digits", *changes, "--checkpoint", str(weights), "--tolerance", "1", "--out", str(out)]
    main([*arguments, "--finetune", "1"])
    printed = capsys.readouterr().out
    report = json.loads((out / "utilization.json").read_text())
    (reached,) = [float(line.split("top1 ")[1].split()[0]) for line in trained.splitlines() if "epoch 2/2" in line]
    assert report["original_accuracy"] == pytest.approx(reached, abs=1)  # of 288 images three may differ by rounding
    assert "6/6  head" in printed and "blocks.0.mlp.fc1" in printed and "fine-tuning  epoch 1/1" in printed
    assert [layer["name"] for layer in report["layers"]][0] == "patch_embed.proj" and len(report["layers"]) == 6
    assert 0 < report["mlu"] <= report["original_mlu"] <= 1 and report["parameters_ratio"] <= 1
    assert (out / "snapshot.png").read_bytes().startswith(b"\x89PNG")

    main([*arguments, "--layers", "blocks.0.mlp.fc1", "head"])  # goes on from what is there: nothing is searched again
    again = json.loads((out / "utilization.json").read_text())
    assert again["layers"] == report["layers"]
    assert [curve["name"] for curve in again["curves"]] == ["blocks.0.mlp.fc1", "head"] and report["curves"] == []
    assert (out / "layers.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--layers", "blocks.0.mlp.fc3"])
    assert "no layer 'blocks.0.mlp.fc3'; did you mean 'blocks.0.mlp.fc" in capsys.readouterr().err


def test_missing_or_wrong_weights_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"no weights")
    for arguments, message in (
        ([], "the network is untrained; give --checkpoint FILE"),
        (["--checkpoint", "missing.pt"], "missing.pt: no such file"),
        (["--checkpoint", str(garbage)], "holds no weights that can be read"),
    ):
        with pytest.raises(SystemExit):
            main(["vit_digits", "--out", str(tmp_path / "out"), *arguments])
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1
