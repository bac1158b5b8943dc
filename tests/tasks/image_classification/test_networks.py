"""Networks by name: they build, convert, and unknown ones are found early."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.oialr import plan
from oialr_hpo.tasks.image_classification.networks import CIFAR, build_network


@pytest.mark.parametrize("name", CIFAR)
def test_networks_for_cifar(name: str) -> None:
    """Their sizes are those of the paper's: VGG11 9 million parameters, VGG19 20 (section 3.1)."""
    parameters = {
        "vgg11_cifar": 9.23, "vgg13_cifar": 9.42, "vgg16_cifar": 14.7, "vgg19_cifar": 20.0,
        "resnet18_cifar": 11.2, "resnet50_cifar": 23.5, "resnet101_cifar": 42.5,
    }  # fmt: skip
    network = build_network(name, {"num_classes": 10})
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(parameters[name], rel=5e-3)
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("VisionTransformr", "VisionTransformer"), ("vgg16_cifa", "vgg16_cifar"), ("torchvision/resnet5", "torchvision/")],
)
def test_an_unknown_network_is_found_before_torch_is_loaded(wrong: str, right: str) -> None:
    code = (
        "import sys\nfrom oialr_hpo.experiment import ExperimentError, load\n"
        f"try:\n    load('vit_digits', ['model.name={wrong}'])\n"
        "except ExperimentError as error:\n    print(error, 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "model.name: " in printed and right in printed and printed.endswith("False\n")
    with pytest.raises(ValueError, match="has a network"):
        build_network(wrong, {})


@pytest.mark.parametrize(
    ("name", "layers", "millions"),
    [("vit_b_16", 50, 86.4), ("resnetrs101", 174, 63.6), ("resnet50", 54, 25.6), ("vgg16", 16, 138.4)],
)
def test_the_experiments_on_imagenet_build_and_convert(name: str, layers: int, millions: float) -> None:
    model = load(f"{name}_imagenet").model
    with torch.device("meta"):
        network = build_network(model["name"], model["arguments"])
    convertible = [layer for layer in plan(network) if not layer.reason]
    assert len(convertible) == layers
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_experiments_of_the_papers_tables() -> None:
    for name in ("vit_b_16_imagenet", "resnetrs101_imagenet"):
        assert load(name).data["image_size"] == 160 and load(name).training.epochs == 125
    with pytest.raises(ExperimentError, match="data.image_size"):
        load("resnet50_imagenet", ["data.image_size=big"])


def test_vgg_takes_smaller_images() -> None:
    network = build_network("vgg11_cifar", {"in_chans": 1, "img_size": 8, "width": 0.25})
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert network.classifier.in_features == 128


@pytest.mark.parametrize(("name", "last"), [("vgg11_cifar", True), ("vit_tiny_patch16_224", False)])
def test_networks_of_convolutions_have_the_channels_of_a_pixel_side_by_side_on_a_cpu(name: str, last: bool) -> None:
    arguments = {"width": 0.1} if last else {"img_size": 32, "depth": 1}
    network = build_network(name, arguments).eval()
    seen: list[Tensor] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    x = torch.randn(2, 3, 32, 32)
    logits = network(x)
    assert all(each.is_contiguous(memory_format=torch.channels_last) == last for each in seen if each.shape[-1] > 1)
    network._forward_pre_hooks.clear()
    torch.testing.assert_close(network(x), logits)
