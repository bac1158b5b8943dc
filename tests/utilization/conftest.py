"""A small network trained on scikit-learn's real digits, the same on every CPU."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

Batches = list[tuple[Tensor, Tensor]]


def digits() -> tuple[Batches, Batches]:
    """Batches for training, and for validation."""
    values, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    images = torch.from_numpy((values[order] - 5) / 16).float().view(-1, 1, 8, 8)
    batches = list(zip(images.split(100), torch.tensor(labels[order]).split(100), strict=True))
    return batches[:6], batches[6:12]


def trained(network: nn.Module, batches: Batches, epochs: int) -> nn.Module:
    """In float64, from NumPy's draws, then rounded: what CPUs and versions of torch do differently is rounded away."""
    random = np.random.RandomState(0)
    network.double()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            bound = parameter[0].numel() ** -0.5
            parameter.data = torch.from_numpy(random.uniform(-bound, bound, tuple(parameter.shape)))
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for images, labels in batches * epochs:
        F.cross_entropy(network(images.double()), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    for value in network.state_dict().values():
        value.copy_((value * 2**12).round() / 2**12 + 0.0)  # no negative zeros
    return network.float().eval()


@pytest.fixture(scope="session")
def batches() -> tuple[Batches, Batches]:
    return digits()


@pytest.fixture(scope="session")
def convolutional(batches: tuple[Batches, Batches]) -> nn.Module:
    """About 97 % accurate."""
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip
    return trained(network, batches[0], 15)
