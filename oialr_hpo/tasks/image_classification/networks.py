"""Networks by name: timm's, torchvision's, and the VGGs and ResNets for the 32 x 32 images of CIFAR."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

VGG_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network by its name; one of convolutions puts the channels of a pixel side by side on a CPU, where that is up
    to twice as fast.

    `vgg16_cifar` and `resnet50_cifar`, of the depths 11, 13, 16, 19 and 18, 50, 101, are those of this module;
    `torchvision/resnet50` is one of torchvision; other names are registered with timm, or classes of `timm.models`.
    None has pretrained weights unless its arguments ask for them (timm: `pretrained: true`, torchvision:
    `weights: DEFAULT`), which downloads them.

    Raises:
        ValueError: there is no such network.
    """
    network = _named(name, arguments)
    convolutions, linear = (
        sum(isinstance(each, kind) for each in network.modules()) for kind in (nn.Conv2d, nn.Linear)
    )
    if convolutions > linear:
        network.register_forward_pre_hook(_channels_last)
    return network


def _channels_last(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Convolutions, norms and what lies between them keep the order in which they get their images."""
    images, *others = inputs
    if images.device.type != "cpu":
        return inputs
    return images.contiguous(memory_format=torch.channels_last), *others


def _named(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    if name in CIFAR:
        return CIFAR[name](**arguments)
    library, _, member = name.rpartition("/")
    if library == "torchvision" and member in torchvision.models.list_models():
        return torchvision.models.get_model(member, **arguments)
    if ":" not in name and timm.is_model(name):
        return timm.create_model(name, **arguments)
    if isinstance(network := getattr(timm.models, name, None), type):
        return network(**arguments)
    raise ValueError(f"model.name: neither timm {timm.__version__} nor this package has a network {name!r}")


class CifarVGG(nn.Module):
    """VGG with batch normalisation and a single linear layer as its head: (B, in_chans, img_size, img_size) to
    (B, num_classes). A stage halves the image's side as long as it can be halved: 32 is a single pixel at the end."""

    def __init__(
        self, depth: int, num_classes: int = 10, in_chans: int = 3, width: float = 1.0, img_size: int = 32
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = in_chans, img_size
        for convolutions, full_width in zip(VGG_STAGES[depth], (64, 128, 256, 512, 512), strict=True):
            for _ in range(convolutions):
                out = max(1, round(full_width * width))
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
                channels = out
            if side > 1:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side**2, num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def cifar_resnet(block: Any, layers: tuple[int, ...], **arguments: Any) -> nn.Module:
    """timm's ResNet with a stem for small images: one 3 x 3 convolution, no pooling."""
    network: Any = ResNet(block, layers, **{"num_classes": 10, **arguments})
    stem = network.conv1
    network.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


CIFAR: dict[str, Callable[..., nn.Module]] = {
    **{f"vgg{depth}_cifar": partial(CifarVGG, depth) for depth in VGG_STAGES},
    "resnet18_cifar": partial(cifar_resnet, BasicBlock, (2, 2, 2, 2)),
    "resnet50_cifar": partial(cifar_resnet, Bottleneck, (3, 4, 6, 3)),
    "resnet101_cifar": partial(cifar_resnet, Bottleneck, (3, 4, 23, 3)),
}
