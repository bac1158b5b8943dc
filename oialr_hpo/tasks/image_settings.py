"""Settings of image classification, free of torch so that a search can check a file without it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from oialr_hpo.tasks import TaskSettings
from oialr_hpo.tasks.images import find_images, load_images


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ImageData(Settings):
    """Images, the split that selects, and the augmentation of the training images."""

    dataset: str
    mean: list[float] = Field(min_length=1, max_length=3, description="of each channel, for values in 0..1")
    std: list[float] = Field(min_length=1, max_length=3)
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    split_seed: int = Field(0, ge=0)
    train_images: int | None = Field(None, ge=2, description="a stratified part of the training images")
    auto_augment: str | None = Field(None, description="timm's RandAugment, e.g. rand-m9-mstd0.5-inc1")
    crop_scale: list[float] | None = Field(None, min_length=2, max_length=2)
    horizontal_flip: float = Field(0.0, ge=0, le=1)
    random_erasing: float = Field(0.0, ge=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class TimmModel(Settings):
    """A network of timm: `name` as in `timm.create_model`, or a class of `timm.models`, with its arguments."""

    name: str
    arguments: dict[str, Any] = {}


class ImageClassificationSettings(TaskSettings):
    data: ImageData
    model: TimmModel

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
