"""Image classification with the networks of timm, torchvision, and `oialr_hpo.tasks.image_classification.networks`."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oialr_hpo.mistake import Mistake
from oialr_hpo.tasks.image_classification.augmentation import TrainAugmentation, normalise
from oialr_hpo.tasks.image_classification.classification import (
    Batch,
    Seen,
    check_batch,
    classification_loss,
    classification_metrics,
)
from oialr_hpo.tasks.image_classification.datasets import load_images
from oialr_hpo.tasks.image_classification.image_arrays import ImageArrays
from oialr_hpo.tasks.image_classification.settings import ImageClassificationSettings
from oialr_hpo.tasks.image_classification.splitting import split_for
from oialr_hpo.tasks.task import Split


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
        training, held_out = split_for(
            images.labels, split, data.validation_fraction, data.train_images, data.split_seed
        )
        self.split, self.validates = split, split == "validation"
        for name, values in (("mean", data.mean), ("std", data.std)):
            if len(values) not in (1, images.images.shape[-1]):
                raise Mistake(
                    f"data.{name} has {len(values)} values for {images.images.shape[-1]} channels; give as many"
                )
        check_batch(batch_size, len(training))
        self.steps_per_epoch = len(training) // batch_size
        self._settings, self._mean, self._std = settings, data.mean, data.std
        self._batch_size, self._seed, self._device, self._classes = batch_size, seed, device, len(images.classes)
        self._label_smoothing, self._seen = data.label_smoothing, Seen()
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
        return self._settings.build_model()

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self._training), generator=generator)
        for step in range(self.steps_per_epoch):
            images, labels = self._training[order[step * self._batch_size : (step + 1) * self._batch_size]]
            yield self._augmentation(images, generator), labels

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return classification_loss(model, batch, self._classes, self._label_smoothing, self._seen)

    def training_metrics(self) -> dict[str, tuple[Tensor | float, int]]:
        """top1 in percent of the batches since the last call, each as it was augmented."""
        return self._seen.take()

    def evaluate(self, model: nn.Module, split: Split, batches: int | None = None) -> dict[str, float]:
        """Cross-entropy, top1 and top5 in percent, and error = 1 - top-1 as a fraction; of all images, or the first."""
        return classification_metrics(model, islice(self._unaugmented(self._evaluated), batches))

    def evaluation_batches(self) -> Iterable[Batch]:
        """Images of the split that `evaluate` measures, and labels."""
        return list(self._unaugmented(self._evaluated))

    def training_batches(self, count: int) -> Iterable[Batch]:
        """So many training images, of all classes, without augmentation, and labels."""
        positions = torch.linspace(0, len(self._training) - 1, min(count, len(self._training))).long()
        return list(self._unaugmented(self._training, positions))

    def _unaugmented(self, images: "_Images", positions: Tensor | None = None) -> Iterator[Batch]:
        for part in (torch.arange(len(images)) if positions is None else positions).split(self._batch_size):
            pixels, labels = images[part]
            yield normalise(pixels, self._mean, self._std), labels


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
