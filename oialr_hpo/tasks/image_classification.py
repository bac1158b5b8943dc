"""Image classification with the networks of timm."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from oialr_hpo.tasks import Split
from oialr_hpo.tasks.augmentation import TrainAugmentation, normalise
from oialr_hpo.tasks.image_settings import ImageClassificationSettings
from oialr_hpo.tasks.images import ImageArrays, load_images, stratified_split, stratified_subset

Batch = tuple[Tensor, Tensor]


class ImageClassification:
    """Top-1 and top-5 of a network on images that fit into memory.

    A search trains on the training images without a stratified validation split and never sees the test images; for
    the split `test` the network trains on all training images, since nothing is selected any more.
    """

    Settings = ImageClassificationSettings

    def __init__(
        self,
        settings: ImageClassificationSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        data = settings.data
        images = load_images(data.dataset, "train", data_dir)
        training, held_out = stratified_split(images.labels, data.validation_fraction, data.split_seed)
        if split == "test":
            training = np.arange(len(images.labels))
        if data.train_images is not None:
            chosen = stratified_subset(images.labels[training], data.train_images, data.split_seed)
            training = training[chosen]
        self.split, self.validates = split, split == "validation"
        self.steps_per_epoch = max(1, len(training) // batch_size)
        self._model, self._mean, self._std = settings.model, data.mean, data.std
        self._batch_size, self._seed, self._device = min(batch_size, len(training)), seed, device
        self._label_smoothing = data.label_smoothing
        self._augmentation = TrainAugmentation(
            data.mean,
            data.std,
            auto_augment=data.auto_augment,
            crop_scale=(data.crop_scale[0], data.crop_scale[1]) if data.crop_scale else None,
            hflip=data.horizontal_flip,
            random_erasing=data.random_erasing,
        )
        self._training = _Images(images, training, device)
        tested = load_images(data.dataset, "test", data_dir) if split == "test" else None
        self._evaluated = (
            _Images(tested, np.arange(len(tested.labels)), device) if tested else _Images(images, held_out, device)
        )

    def build_model(self) -> nn.Module:
        return build_network(self._model.name, self._model.arguments)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._training), generator=generator)
        for step in range(self.steps_per_epoch):
            images, labels = self._training[order[step * self._batch_size : (step + 1) * self._batch_size]]
            yield self._augmentation(images, generator), labels

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels, label_smoothing=self._label_smoothing)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Cross-entropy, top1 and top5 in percent, and error = 1 - top-1 as a fraction."""
        count = len(self._evaluated)
        loss, top1, top5 = torch.zeros(3, device=self._device)
        for start in range(0, count, self._batch_size):
            images, labels = self._evaluated[torch.arange(start, min(start + self._batch_size, count))]
            logits = model(normalise(images, self._mean, self._std)).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
            top1 += hits[:, 0].sum()
            top5 += hits.sum()
        sums = torch.stack([loss, top1, top5]).tolist()
        return {
            "loss": sums[0] / count,
            "top1": 100 * sums[1] / count,
            "top5": 100 * sums[2] / count,
            "error": 1 - sums[1] / count,
        }


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network of timm by its registered name, or by its class in `timm.models`.

    Raises:
        ValueError: timm has no such network.
    """
    if timm.is_model(name):
        return timm.create_model(name, **arguments)
    if isinstance(network := getattr(timm.models, name, None), type):
        return network(**arguments)
    raise ValueError(f"model.name: timm {timm.__version__} has no network {name!r}")


class _Images:
    """Some images of a data set; a GPU holds them all, a CPU reads them from the shared memory map."""

    def __init__(self, source: ImageArrays, indices: NDArray[np.int64], device: torch.device):
        self._device = device
        self._indices = torch.from_numpy(indices)
        self._labels = torch.from_numpy(source.labels[indices]).to(device)
        self._images = source.images
        self._resident = torch.from_numpy(source.images[indices]).to(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, positions: Tensor) -> Batch:
        """Images (B, H, W, C) uint8 and labels (B,) int64 at some positions, on the device."""
        if self._resident is not None:
            positions = positions.pin_memory().to(self._device, non_blocking=True)
            return self._resident[positions], self._labels[positions]
        return torch.from_numpy(self._images[self._indices[positions].numpy()]), self._labels[positions]
