"""Image classification on folders of images, augmented by timm's own loader."""

import os
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timm.data import RealLabelsImagenet, create_loader
from torch import Tensor, nn

from oialr_hpo.oialr.randomness import random_state_kept
from oialr_hpo.tasks.image_classification.classification import (
    Batch,
    Seen,
    check_batch,
    classification_loss,
    classification_metrics,
)
from oialr_hpo.tasks.image_classification.splitting import split_for
from oialr_hpo.tasks.image_folder.loader import Batches, FolderImages
from oialr_hpo.tasks.image_folder.settings import ImageFolderSettings
from oialr_hpo.tasks.image_folder.tree import find_tree
from oialr_hpo.tasks.task import Split


class ImageFolder:
    """Top-1 and top-5 of a network on DATA_DIR/DATASET/train/CLASS/* and .../val/CLASS/*.

    The folders of train/ are the classes, see `find_tree`; every image counts, and one that cannot be read ends the
    training with a DataError. A search trains on the training images without a stratified validation split; the images
    in val/ are the test split, which is measured with ReaL labels too where these are given. For the split `test` the
    network trains on all training images.
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
        self._settings, self._data, self._seed, self._device = settings, settings.data, seed, device
        self._root = settings.folder(data_dir)
        tree = find_tree(self._root)
        files, labels = tree.files["train"], tree.labels["train"]
        data = self._data
        training, held_out = split_for(labels, split, data.validation_fraction, data.train_images, data.split_seed)
        self._chosen = FolderImages(files, labels).part(training.tolist())
        self.split, self.validates = split, split == "validation"
        check_batch(batch_size, len(self._chosen))
        self._batch_size, self._classes, self._seen = batch_size, len(tree.classes), Seen()
        self.steps_per_epoch = len(self._chosen) // batch_size
        self._training = self._loader(self._chosen, augment=True)
        if split == "test":
            self._held = FolderImages(tree.files["val"], tree.labels["val"])
        else:
            self._held = FolderImages(files, labels).part(held_out.tolist())
        self._evaluated = Batches(self._loader(self._held))

    def build_model(self) -> nn.Module:
        return self._settings.build_model()

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        random.seed(self._seed * 1_000_003 + epoch)  # of timm's random erasing, which happens in this process
        batches = iter(Batches(self._training))
        for step in range(self.steps_per_epoch):
            with random_state_kept(self._device):
                torch.manual_seed(((self._seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63)
                batch = next(batches)  # the first one draws the order and the workers' seeds
            yield batch

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return classification_loss(model, batch, self._classes, self._data.label_smoothing, self._seen)

    def training_metrics(self) -> dict[str, tuple[Tensor | float, int]]:
        """top1 in percent of the batches since the last call, each as it was augmented."""
        return self._seen.take()

    def evaluate(self, model: nn.Module, split: Split, batches: int | None = None) -> dict[str, float]:
        """As `classification_metrics`, and real_top1 with ReaL labels, in percent; of all images, or the first."""
        metrics = classification_metrics(model, islice(self._evaluated, batches))
        if self.split == "test" and self._data.real_labels:
            metrics["real_top1"] = self._real_top1(model, batches)
        return metrics

    def evaluation_batches(self) -> Iterable[Batch]:
        """Images of the split that `evaluate` measures, and labels."""
        return self._evaluated

    def training_batches(self, count: int) -> Iterable[Batch]:
        """So many training images, of all classes, without augmentation, and labels."""
        total = len(self._chosen)
        return Batches(self._loader(self._chosen.part([i * total // count for i in range(min(count, total))])))

    def _real_top1(self, model: nn.Module, batches: int | None) -> float:
        labels_file = None if self._data.real_labels == "timm" else self._root / str(self._data.real_labels)
        real = RealLabelsImagenet([os.path.basename(file) for file in self._held.files], labels_file, topk=(1,))
        for images, _ in islice(self._evaluated, batches):
            real.add_result(model(images))
        return float(real.get_accuracy(k=1))

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
