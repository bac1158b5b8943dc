"""All random operations on a batch, one after another."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from oialr_hpo.tasks.image_classification.augmentation.cropping import random_resized_crop
from oialr_hpo.tasks.image_classification.augmentation.erasing import random_erasing
from oialr_hpo.tasks.image_classification.augmentation.normalising import channels_first, normalised
from oialr_hpo.tasks.image_classification.augmentation.rand_augment import RandAugment
from oialr_hpo.tasks.image_classification.augmentation.sending import send


class TrainAugmentation:
    """Random resized crop, horizontal flip, RandAugment, normalisation and random erasing of a batch.

    Agrees in distribution with `timm.data.create_transform(size, is_training=True, scale=crop_scale,
    hflip=hflip, auto_augment=auto_augment, interpolation="random", re_prob=random_erasing, re_mode="pixel")`
    for square images. Erased rectangles are filled with normal noise per pixel, as in timm's own training
    script ("pixel"), not with zeros, the default of `create_transform` ("const").

    Args:
        mean: of each channel, for values in 0..1.
        std: of each channel, for values in 0..1.
        auto_augment: a RandAugment string such as "rand-m9-mstd0.5-inc1", None for none.
        crop_scale: smallest and largest share of the area that a crop keeps, None for no crop.
        hflip: probability of a horizontal flip.
        random_erasing: probability of erasing a rectangle.

    Raises:
        ValueError: one of these is out of range, or the string asks for something not offered.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        auto_augment: str | None = "rand-m9-mstd0.5-inc1",
        crop_scale: tuple[float, float] | None = (0.8, 1.0),
        hflip: float = 0.5,
        random_erasing: float = 0.25,
    ) -> None:
        if crop_scale is not None and not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ValueError(f"crop_scale {crop_scale} is not a range within (0, 1]")
        for name, value in (("hflip", hflip), ("random_erasing", random_erasing)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value} is not a probability")
        self.mean, self.std = tuple(mean), tuple(std)
        self.rand_augment = None if auto_augment is None else RandAugment.parse(auto_augment)
        self.crop_scale = crop_scale
        self.hflip = hflip
        self.random_erasing = random_erasing

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment one batch.

        Args:
            images: (B, H, W, C) uint8 on any device; one or three channels.
            generator: on the CPU; decides everything.

        Returns:
            (B, C, H, W) float32, normalised, on the same device.
        """
        images = channels_first(images)
        if self.crop_scale is not None:
            images = random_resized_crop(images, self.crop_scale, generator)
        if self.hflip > 0:
            flipped = send(torch.rand(len(images), generator=generator) < self.hflip, images.device)
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        if self.rand_augment is not None:
            fill = torch.tensor([min(255, round(255 * value)) for value in self.mean], dtype=torch.uint8)
            images = self.rand_augment(images, send(fill, images.device), generator)
        batch = normalised(images, self.mean, self.std)
        return random_erasing(batch, self.random_erasing, generator) if self.random_erasing > 0 else batch
