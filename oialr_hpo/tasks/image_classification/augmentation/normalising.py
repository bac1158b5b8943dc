"""From uint8 images to what a network takes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from oialr_hpo.tasks.image_classification.augmentation.sending import send


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, H, W, C) uint8 to (B, C, H, W) float32 of zero mean and unit variance, for evaluation."""
    return normalised(channels_first(images), mean, std)


def channels_first(images: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W).

    Raises:
        ValueError: the images are not uint8 with one or three channels at the end.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, not uint8 (B, H, W, 1 or 3)")
    return images.permute(0, 3, 1, 2).contiguous()


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    scale = torch.tensor([[1 / (255 * s), -m / s] for m, s in zip(mean, std, strict=True)])
    factor, shift = send(scale, images.device).T[..., None, None]
    return images.float().mul_(factor).add_(shift)
