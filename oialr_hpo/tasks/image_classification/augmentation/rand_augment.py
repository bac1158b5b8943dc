"""RandAugment: which operations happen to which image, and how strongly."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from oialr_hpo.tasks.image_classification.augmentation.colour import COLOUR
from oialr_hpo.tasks.image_classification.augmentation.geometry import GEOMETRY, affine, affine_matrices
from oialr_hpo.tasks.image_classification.augmentation.sending import send

MAX_LEVEL = 10.0
OPERATIONS = (*GEOMETRY, *COLOUR)


@dataclass(frozen=True)
class RandAugment:
    """`layers` of the 15 operations drawn per image, each applied with probability `probability`.

    Source: Cubuk et al. 2019 in timm's variant, whose operations grow stronger with the magnitude ("inc1").
    A magnitude is drawn from N(`magnitude`, `magnitude_std`), cut to 0..10, for each application.
    """

    magnitude: float = 10
    magnitude_std: float = 0
    layers: int = 2
    probability: float = 0.5

    @classmethod
    def parse(cls, config: str) -> "RandAugment":
        """Read timm's notation: "rand-m9-mstd0.5-inc1", with n (layers) and p (probability) optional.

        Raises:
            ValueError: it is not in this notation, or asks for operations that do not increase.
        """
        name, *parts = config.split("-")
        found = [re.fullmatch(r"(n|inc|m|mstd|p)(\d+|(?<=[mdp])\d*\.\d+)", part) for part in parts]
        values = {match[1]: float(match[2]) for match in found if match}
        if name != "rand" or None in found or len(values) < len(parts) or values.get("inc") != 1:
            raise ValueError(
                f"auto_augment {config!r} is not offered; write 'rand-m9-mstd0.5-inc1' with other numbers "
                "(m magnitude, mstd its deviation, n operations per image, p probability of each; inc1 stays)"
            )
        augment = cls(values.get("m", 10), values.get("mstd", 0), int(values.get("n", 2)), values.get("p", 0.5))
        if augment.magnitude > MAX_LEVEL or augment.probability > 1:
            raise ValueError(f"auto_augment {config!r}: m ends at {MAX_LEVEL:g} and p at 1")
        return augment

    def __call__(self, images: Tensor, fill: Tensor, generator: Generator) -> Tensor:
        """Augment (B, C, H, W) uint8 images; `fill` (C,) is the colour beyond their edges."""
        position = torch.arange(len(images))
        for _ in range(self.layers):
            images, position = self._layer(images, position, fill, generator)
        return images[send(torch.argsort(position), images.device)]

    def _layer(self, images: Tensor, position: Tensor, fill: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sort the images by operation, so that each operation finds its images side by side."""
        count, device = len(images), images.device
        operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
        noise = torch.randn(count, dtype=torch.float64, generator=generator)
        level = (self.magnitude + self.magnitude_std * noise).clamp(0, MAX_LEVEL) / MAX_LEVEL
        sign = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        bicubic = torch.rand(count, generator=generator) < 0.5
        skipped = torch.rand(count, generator=generator) >= self.probability
        argument = torch.stack([ARGUMENTS[name](level, sign) for name in OPERATIONS])
        argument = argument.gather(0, operation[None])[0]

        # groups: bilinear geometry, bicubic geometry, each colour operation, untouched
        group = torch.where(operation < len(GEOMETRY), bicubic, operation - len(GEOMETRY) + 2)
        group[skipped] = len(COLOUR) + 2
        order = torch.argsort(group, stable=True)
        stops = torch.bincount(group, minlength=len(COLOUR) + 3).cumsum(0).tolist()

        images = images[send(order, device)]
        matrices = send(affine_matrices(operation, argument, images.shape[2:])[order], device)
        arguments = send(argument[order].float(), device)[:, None, None, None]
        for g, (start, stop) in enumerate(zip([0, *stops], stops[:-1], strict=False)):
            part = slice(start, stop)
            if start == stop:
                continue
            if g < 2:
                images[part] = affine(images[part], matrices[part], g == 1, fill)
            else:
                images[part] = COLOUR[OPERATIONS[g - 2 + len(GEOMETRY)]](images[part], arguments[part])
        return images, position[order]


def _none(level: Tensor, sign: Tensor) -> Tensor:
    return torch.zeros_like(level)


def enhancement(level: Tensor, sign: Tensor) -> Tensor:
    """By how much an image is blended with its degenerate: 1 leaves it as it is."""
    return (1 + 0.9 * level * sign).clamp(min=0.1)


ARGUMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Rotate": lambda level, sign: 30 * level * sign,
    "ShearX": lambda level, sign: 0.3 * level * sign,
    "ShearY": lambda level, sign: 0.3 * level * sign,
    "TranslateXRel": lambda level, sign: 0.45 * level * sign,
    "TranslateYRel": lambda level, sign: 0.45 * level * sign,
    "AutoContrast": _none,
    "Equalize": _none,
    "Invert": _none,
    "PosterizeIncreasing": lambda level, sign: 4 - (4 * level).floor(),
    "SolarizeIncreasing": lambda level, sign: 256 - (256 * level).floor(),
    "SolarizeAdd": lambda level, sign: (110 * level).floor(),
    "ColorIncreasing": enhancement,
    "ContrastIncreasing": enhancement,
    "BrightnessIncreasing": enhancement,
    "SharpnessIncreasing": enhancement,
}
"""An operation's argument, from levels in 0..1 and random signs, (B,) each."""
