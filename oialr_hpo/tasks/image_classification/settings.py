"""Settings of image classification, free of torch so that a search can check a file without it."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from oialr_hpo.section import Section
from oialr_hpo.tasks.image_classification.datasets import find_images, load_images
from oialr_hpo.tasks.image_classification.network_names import Network
from oialr_hpo.tasks.task import TaskSettings

if TYPE_CHECKING:
    from torch import nn


class ImageData(Section):
    """Images, the split that selects, and the augmentation of the training images."""

    dataset: str = Field(description="cifar10, cifar100 or digits")
    mean: list[float] = Field(min_length=1, max_length=3, description="of each channel, for values in 0..1")
    std: list[PositiveFloat] = Field(min_length=1, max_length=3, description="of each channel")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="of the training images; selects")
    split_seed: int = Field(0, ge=0, description="of the choice of validation images")
    train_images: int | None = Field(None, ge=2, description="a stratified part of the training images")
    auto_augment: str | None = Field(None, description="timm's RandAugment, e.g. rand-m9-mstd0.5-inc1")
    crop_scale: list[float] | None = Field(
        None, min_length=2, max_length=2, description="smallest and largest share of the area that a crop keeps"
    )
    horizontal_flip: float = Field(0.0, ge=0, le=1, description="probability")
    random_erasing: float = Field(0.0, ge=0, le=1, description="probability")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the training loss")


class ImageClassificationSettings(TaskSettings):
    """The sections `data` and `model` of `image_classification`: a data set of images, and a network."""

    smaller_is_better = frozenset({"loss", "error"})
    larger_is_better = frozenset({"top1", "top5"})

    data: ImageData
    model: Network

    def find_data(self, data_dir: Path | None) -> dict[str, Path]:
        """The archives or images of both splits, downloaded where there are none.

        Raises:
            DataError: there are none.
        """
        return find_images(self.data.dataset, data_dir)

    def prepare_data(self, data_dir: Path | None) -> None:
        """Decode the images, or download them, into the cache that all processes of a node map.

        Raises:
            DataError: there are none.
        """
        load_images(self.data.dataset, "train", data_dir)

    def build_model(self) -> "nn.Module":
        """The network that the section names."""
        from oialr_hpo.tasks.image_classification.networks import build_network

        return build_network(self.model.name, self.model.arguments)
