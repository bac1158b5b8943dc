"""Image classification on folders of images, such as ImageNet's, read and augmented by timm's own loader."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import RealLabelsImagenet, create_dataset, create_loader
from torch import Tensor, nn

from oialr_hpo.tasks import Split
from oialr_hpo.tasks.image_classification import Batch, classification_metrics
from oialr_hpo.tasks.image_settings import ImageFolderSettings
from oialr_hpo.tasks.images import split_for
from oialr_hpo.tasks.networks import build_network


class ImageFolder:
    """Top-1 and top-5 of a network on DATA_DIR/DATASET/train/CLASS/* and .../val/CLASS/*.

    A search trains on the training images without a stratified validation split; the images in val/ are the test
    split, which is measured with ReaL labels too where these are given. For the split `test` the network trains on all
    training images.
    """

    Settings = ImageFolderSettings

    def __init__(
        self,
        settings: ImageFolderSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        self._data, self._model, self._seed, self._device = settings.data, settings.model, seed, device
        self._root = settings.folder(data_dir)
        labels = [label for _, label in self._dataset("train").reader.samples]
        data = self._data
        training, held_out = split_for(labels, split, data.validation_fraction, data.train_images, data.split_seed)
        chosen = training.tolist()
        self._chosen = chosen
        self.split, self.validates = split, split == "validation"
        self._batch_size = min(batch_size, len(chosen))
        self.steps_per_epoch = len(chosen) // self._batch_size
        self._training = self._loader(self._dataset("train", chosen), augment=True)
        self._tested = self._dataset("val") if split == "test" else None
        self._evaluated = self._loader(self._tested or self._dataset("train", held_out.tolist()))

    def build_model(self) -> nn.Module:
        return build_network(self._model.name, self._model.arguments)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        random.seed(self._seed * 1_000_003 + epoch)  # of timm's random erasing, which happens in this process
        batches = iter(self._training)
        for step in range(self.steps_per_epoch):
            with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
                torch.manual_seed(((self._seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63)
                batch = next(batches)  # the first one draws the order and the workers' seeds
            yield batch

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels, label_smoothing=self._data.label_smoothing)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """As `classification_metrics`, and real_top1 with ReaL labels, in percent."""
        metrics = classification_metrics(model, self._evaluated)
        if self._tested is not None and self._data.real_labels:
            metrics["real_top1"] = self._real_top1(model, self._tested)
        return metrics

    def evaluation_batches(self) -> Iterable[Batch]:
        """Images of the split that `evaluate` measures, and labels."""
        batches: Iterable[Batch] = self._evaluated
        return batches

    def training_batches(self, count: int) -> Iterable[Batch]:
        """So many training images, of all classes, without augmentation, and labels."""
        chosen = [self._chosen[i * len(self._chosen) // count] for i in range(min(count, len(self._chosen)))]
        batches: Iterable[Batch] = self._loader(self._dataset("train", chosen))
        return batches

    def _real_top1(self, model: nn.Module, dataset: Any) -> float:
        labels_file = None if self._data.real_labels == "timm" else self._root / str(self._data.real_labels)
        real = RealLabelsImagenet(dataset.filenames(basename=True), labels_file, topk=(1,))
        for images, _ in self._evaluated:
            real.add_result(model(images))
        return float(real.get_accuracy(k=1))

    def _dataset(self, part: str, chosen: list[int] | None = None) -> Any:
        dataset = create_dataset("", str(self._root / part), search_split=False)
        if chosen is not None:
            dataset.reader.samples = [dataset.reader.samples[i] for i in chosen]
        return dataset

    def _loader(self, dataset: Any, augment: bool = False) -> Any:
        data = self._data
        return create_loader(
            dataset,
            input_size=(3, data.image_size, data.image_size),
            batch_size=self._batch_size,
            is_training=augment,
            scale=(data.crop_scale[0], data.crop_scale[1]),
            hflip=data.horizontal_flip,
            color_jitter=data.color_jitter,
            auto_augment=data.auto_augment,
            re_prob=data.random_erasing if augment else 0.0,
            re_mode="pixel",
            interpolation=data.interpolation if augment or data.interpolation != "random" else "bicubic",
            crop_pct=data.crop_share,
            mean=tuple(data.mean),
            std=tuple(data.std),
            num_workers=data.workers,
            persistent_workers=augment,
            pin_memory=self._device.type == "cuda",
            device=self._device,
        )
