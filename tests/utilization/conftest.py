"""Small networks trained on scikit-learn's real digits."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

Batches = list[tuple[Tensor, Tensor]]


def digits() -> tuple[Batches, Batches]:
    """Batches for training, and for validation."""
    values, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(values, dtype=torch.float32).view(-1, 1, 8, 8)[order] / 16 - 0.3
    batches = list(zip(images.split(100), torch.tensor(labels)[order].split(100), strict=True))
    return batches[:6], batches[6:12]


def trained(network: nn.Module, batches: Batches, epochs: int) -> nn.Module:
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for images, labels in batches * epochs:
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval()


@pytest.fixture(scope="session")
def batches() -> tuple[Batches, Batches]:
    return digits()


@pytest.fixture(scope="session")
def convolutional(batches: tuple[Batches, Batches]) -> nn.Module:
    """About 95 % accurate."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip
    return trained(network, batches[0], 15)
