"""A training loop of one's own, searched: a small convolutional network and scikit-learn's handwritten digits.

    python -m oialr_hpo.search examples/own_loop.yaml --jobs 2    # a minute
    python -m oialr_hpo.export runs/own_loop
    python -m oialr_hpo.train runs/own_loop/best/own_loop-1.yaml --seeds 0 1 2 --split test

A loop becomes an objective when it takes its settings from the experiment and yields a record after every epoch:
docs/loop.md.
"""

from collections.abc import Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset, random_split

from oialr_hpo import OIALR, Experiment


def train(experiment: Experiment, *, seed: int, split: str = "validation", **_: Any) -> Iterator[dict[str, float]]:
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16).float().view(-1, 1, 8, 8), torch.tensor(labels))
    parts = random_split(data, [0.6, 0.2, 0.2], torch.Generator().manual_seed(0))
    training, validation, test = parts

    torch.manual_seed(seed)
    epochs, width = experiment.training.epochs, experiment.model["width"]
    loader = DataLoader(training, batch_size=experiment.training.batch_size, shuffle=True)
    model = build(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=experiment.schedule.lr, momentum=0.9, nesterov=True)
    total_steps = epochs * len(loader)
    schedule = OneCycleLR(optimizer, max_lr=experiment.schedule.lr, total_steps=total_steps)
    # delay, frequency, cutoff, ... of this trial; the first two are fractions of total_steps
    oialr = OIALR.for_run(model, optimizer, total_steps, **experiment.method_settings.model_dump())

    for _epoch in range(epochs):
        model.train()
        for x, y in loader:
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            oialr.step()  # after every step of the optimizer: converts and updates when due
        error = measure(model, test if split == "test" else validation)
        yield {"error": error, "trainable_percent": oialr.trainable_percent, "total_percent": oialr.total_percent}


def build(width: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * width, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


@torch.no_grad()
def measure(model: nn.Module, data: Any) -> float:
    model.eval()
    x, y = next(iter(DataLoader(data, batch_size=len(data))))
    return (model(x).argmax(1) != y).float().mean().item()
