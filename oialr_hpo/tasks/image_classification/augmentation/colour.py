"""RandAugment's operations on colours: (B, C, H, W) uint8 images and an argument each, (B, 1, 1, 1)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to 0..255."""
    values = images.int()
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    stretched = (values - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched, values).to(torch.uint8)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Flatten the histogram of each channel."""
    values = images.flatten(2).long()
    histogram = values.new_zeros(*values.shape[:2], 256).scatter_add_(2, values, torch.ones_like(values))
    brightest = histogram.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - brightest) // 255
    table = (step // 2 + histogram.cumsum(2) - histogram) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp(max=255), torch.arange(256, device=images.device))
    return table.to(torch.uint8).gather(2, values).view_as(images)


def invert(images: Tensor, _: Tensor) -> Tensor:
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` of each value: none at level 10, which recent versions of PIL refuse."""
    return images & (256 - 2 ** (8 - bits)).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert values from `threshold` on."""
    return torch.where(images >= threshold, 255 - images, images)


def solarize_add(images: Tensor, added: Tensor) -> Tensor:
    """Brighten values below 128 by `added`."""
    return torch.where(images < 128, (images + added).clamp_(max=255), images.float()).to(torch.uint8)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with grey."""
    return _blend(_grey(images).float(), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey."""
    pixels = images.shape[2] * images.shape[3]
    total = _grey(images).sum((2, 3), keepdim=True)
    return _blend(((2 * total + pixels) // (2 * pixels)).float(), images, factor)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros_like(factor), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image (weights 1, in the centre 5), whose outermost pixels stay."""
    smooth = images.float()
    total = F.avg_pool2d(smooth, 3, stride=1, divisor_override=1) + 4 * smooth[..., 1:-1, 1:-1]
    smooth[..., 1:-1, 1:-1] = (total / 13).round_()
    return _blend(smooth, images, factor)


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return (degenerate + factor * (images - degenerate)).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W) int32 luma, ITU-R 601-2 in PIL's fixed point."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, 1)
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


COLOUR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "PosterizeIncreasing": posterize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
    "ColorIncreasing": color,
    "ContrastIncreasing": contrast,
    "BrightnessIncreasing": brightness,
    "SharpnessIncreasing": sharpness,
}
