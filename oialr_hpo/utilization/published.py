"""What the paper measured (arXiv:2407.04797v1): Tables 1 and 5 (ImageNet) and Table 3 (CIFAR-10, CIFAR-100)."""

from typing import NamedTuple

IMAGES = 20_000
"""For the Gram matrices: so many of ImageNet."""


class Published(NamedTuple):
    """Accuracy and mean layer utilization in percent; after factorising and fine-tuning, the ratios to the original."""

    original_accuracy: float
    original_mlu: float
    accuracy: float
    mlu: float
    parameters: float
    flops: float


IMAGENET = {
    "vit_b_16": Published(80.9, 94, 80.7, 35, 0.48, 0.33),
    "vit_b_32": Published(75.7, 94, 75.8, 34, 0.46, 0.33),
    "vit_l_16": Published(79.5, 81, 79.5, 20, 0.25, 0.13),
    "vit_l_32": Published(76.9, 92, 76.2, 26, 0.36, 0.26),
    "deit_tiny": Published(72.1, 98, 75.0, 86, 0.99, 0.99),
    "deit_small": Published(79.8, 98, 80.3, 74, 0.89, 0.89),
    "deit_base": Published(81.8, 98, 81.5, 49, 0.64, 0.65),
    "swin_tiny": Published(81.2, 98, 81.3, 65, 0.86, 0.83),
    "swin_small": Published(83.3, 98, 83.4, 60, 0.81, 0.77),
    "swin_base": Published(85.2, 98, 84.5, 66, 0.86, 0.83),
    "swin_large": Published(86.3, 98, 85.3, 53, 0.74, 0.70),
    "resnet34": Published(73.2, 99, 72.2, 66, 0.77, 0.76),
    "resnet50": Published(80.1, 99, 79.4, 60, 0.83, 0.74),
    "resnet101": Published(81.5, 99, 80.5, 47, 0.66, 0.59),
    "wide_resnet50_2": Published(81.2, 99, 80.6, 43, 0.68, 0.58),
    "wide_resnet101_2": Published(82.3, 99, 81.7, 33, 0.51, 0.44),
}
TOLERANCES = {
    "vit_b_16": {
        0.01: Published(80.9, 93.8, 81.2, 57.9, 0.76, 0.58),
        0.05: Published(80.9, 93.8, 80.8, 38.7, 0.54, 0.37),
        0.1: Published(80.9, 93.8, 80.7, 34.6, 0.48, 0.33),
        0.5: Published(80.9, 93.8, 79.9, 22.5, 0.31, 0.20),
    },
}
"""Table 5, by percent of accuracy per projection; the rows of the others are of 0.1, or 0.05 (vit_l_32, swin_base and
swin_large)."""
CIFAR = {
    "cifar10": {
        "vgg11": Published(91.5, 98, 92.5, 47, 0.34, 0.60),
        "vgg13": Published(92.9, 98, 93.5, 47, 0.24, 0.60),
        "vgg16": Published(93.2, 99, 93.6, 44, 0.18, 0.54),
        "vgg19": Published(92.7, 99, 93.6, 32, 0.11, 0.38),
        "resnet18": Published(90.9, 95, 91.4, 80, 0.86, 0.92),
        "resnet50": Published(92.8, 96, 93.1, 64, 0.78, 0.78),
        "resnet101": Published(93.2, 96, 94.1, 51, 0.73, 0.64),
    },
    "cifar100": {
        "vgg11": Published(66.9, 99, 67.4, 64, 0.78, 0.72),
        "vgg13": Published(70.2, 99, 71.0, 68, 0.76, 0.77),
        "vgg16": Published(70.2, 99, 71.4, 62, 0.61, 0.71),
        "vgg19": Published(70.2, 99, 71.8, 51, 0.38, 0.68),
        "resnet18": Published(66.0, 96, 67.8, 90, 0.98, 0.99),
        "resnet50": Published(71.4, 96, 73.5, 80, 0.93, 0.92),
        "resnet101": Published(72.2, 96, 73.5, 63, 0.87, 0.77),
    },
}


def published(network: str, dataset: str) -> Published | None:
    """The paper's row for a network by its name in an experiment, such as vgg16_cifar or torchvision/resnet50."""
    if dataset in CIFAR:
        return CIFAR[dataset].get(_name(network).removesuffix("_cifar"))
    return IMAGENET.get(_name(network)) if dataset == "imagenet" else None


def published_at(network: str, dataset: str, tolerance: float) -> Published | None:
    """The same at this tolerance, in percent, where the paper tells it; else its only row."""
    row = published(network, dataset)
    return TOLERANCES.get(_name(network), {}).get(tolerance, row) if row else None


def _name(network: str) -> str:
    """As the tables call it."""
    name = network.removeprefix("torchvision/").partition(".")[0]
    parts = name.split("_patch")[0].replace("vit_base", "vit_b").replace("vit_large", "vit_l")
    if "patch16" in name or "patch32" in name:
        parts = f"{parts}_{name.split('patch')[1][:2]}" if parts.startswith("vit_") else parts
    return parts
