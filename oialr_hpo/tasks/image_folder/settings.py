"""Settings of image folders, free of torch so that a search can check a file without it."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from oialr_hpo.section import Section
from oialr_hpo.tasks.image_classification.network_names import Network
from oialr_hpo.tasks.image_folder.reading import check_readable
from oialr_hpo.tasks.image_folder.tree import PARTS, ImageTree, find_tree
from oialr_hpo.tasks.task import DataError, TaskSettings

if TYPE_CHECKING:
    from torch import nn

TIMMS_REAL_LABELS = 50_000
log = logging.getLogger(__name__)


class FolderData(Section):
    """Images in folders, DATA_DIR/DATASET/train/CLASS/* and .../val/CLASS/*, augmented by timm's own loader."""

    dataset: str = Field("imagenet", description="directory below the data directory, or . for that itself")
    image_size: int = Field(224, ge=8, description="pixels a side, of training and evaluation")
    mean: list[float] = Field([0.485, 0.456, 0.406], min_length=3, max_length=3, description="of each channel")
    std: list[PositiveFloat] = Field([0.229, 0.224, 0.225], min_length=3, max_length=3, description="of each channel")
    validation_fraction: float = Field(0.02, gt=0, lt=1, description="of the training images; selects")
    split_seed: int = Field(0, ge=0, description="of the choice of validation images")
    train_images: int | None = Field(None, ge=2, description="a stratified part of the training images")
    auto_augment: str | None = Field(None, description="timm's RandAugment, e.g. rand-m9-mstd0.5-inc1")
    crop_scale: list[float] = Field(
        [0.08, 1.0], min_length=2, max_length=2, description="smallest and largest share of the area that a crop keeps"
    )
    horizontal_flip: float = Field(0.5, ge=0, le=1, description="probability")
    color_jitter: float = Field(0.4, ge=0, description="where auto_augment is off")
    random_erasing: float = Field(0.0, ge=0, le=1, description="probability")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the training loss")
    interpolation: Literal["bilinear", "bicubic", "random"] = Field("bicubic", description="of the resizing")
    crop_share: float = Field(0.875, gt=0, le=1, description="of the resized image, in evaluation")
    real_labels: str | None = Field(None, description="ImageNet's ReaL labels: a real.json, or `timm` for timm's copy")
    workers: int = Field(4, ge=1, description="processes that decode images")


class ImageFolderSettings(TaskSettings):
    """The sections `data` and `model` of `image_folder`: folders of images, and a network."""

    smaller_is_better = frozenset({"loss", "error"})
    larger_is_better = frozenset({"top1", "top5", "real_top1"})

    data: FolderData
    model: Network

    def folder(self, data_dir: Path | None) -> Path:
        """The directory that holds train/ and val/.

        Raises:
            DataError: there is none.
        """
        if data_dir is None:
            raise DataError(f"{self.data.dataset} is not downloaded; give --data-dir, or set OIALR_DATA")
        return data_dir / self.data.dataset

    def find_data(self, data_dir: Path | None) -> dict[str, Path]:
        """The images and, where they lie below the data directory, their ReaL labels.

        Raises:
            DataError: there are none, see `oialr_hpo.tasks.image_folder.tree.find_tree`.
        """
        tree = find_tree(self.folder(data_dir))
        assert data_dir is not None
        files = [Path(file) for part in PARTS for file in tree.files[part]]
        real_labels = tree.root / (self.data.real_labels or "timm")
        if real_labels.is_file() and real_labels.is_relative_to(data_dir):
            files.append(real_labels)
        return {str(file.relative_to(data_dir)): file for file in files}

    def prepare_data(self, data_dir: Path | None) -> None:
        """Look at the folders and at every image, and say what is odd.

        Raises:
            DataError: classes are missing, empty or more than the network tells apart, images cannot be read, or ReaL
                labels are those of other images.
        """
        tree = find_tree(self.folder(data_dir))
        outputs = self.model.arguments.get("num_classes")
        if isinstance(outputs, int) and outputs < len(tree.classes):
            raise DataError(
                f"{tree.root} has {len(tree.classes)} classes, the network {outputs} outputs; "
                f"set model.arguments.num_classes to {len(tree.classes)}"
            )
        if self.data.real_labels:
            self._check_real_labels(tree, self.data.real_labels)
        check_readable(tree)
        for note in tree.notes:
            log.warning("%s", note)

    def build_model(self) -> "nn.Module":
        """The network that the section names."""
        from oialr_hpo.tasks.image_classification.networks import build_network

        return build_network(self.model.name, self.model.arguments)

    def _check_real_labels(self, tree: ImageTree, name: str) -> None:
        try:
            labels = TIMMS_REAL_LABELS if name == "timm" else len(json.loads((tree.root / name).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"data.real_labels: {tree.root / name} cannot be read ({error}); remove it") from None
        numbers = {f"ILSVRC2012_val_{i + 1:08}.JPEG" for i in range(labels)}
        if numbers != {Path(file).name for file in tree.files["val"]}:
            raise DataError(
                f"data.real_labels: {name} labels ILSVRC2012_val_00000001.JPEG to {labels:08}, and {tree.root / 'val'} "
                "holds others; remove real_labels"
            )
