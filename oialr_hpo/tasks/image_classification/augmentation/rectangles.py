"""Random rectangles, to be cropped or erased."""

import math

import torch
from torch import Generator, Tensor

ATTEMPTS = 10


def rectangles(
    count: int,
    size: tuple[int, int],
    area: tuple[float, float],
    ratio: tuple[float, float],
    full: bool,
    generator: Generator,
) -> Tensor:
    """Draw (top, left, height, width), (count, 4), by up to ten attempts each as timm does.

    `ratio` is that of width to height. A rectangle may be as large as the image only if `full`. Where no
    attempt fits, it is the whole image if `full`, else empty.
    """
    height, width = size
    areas = _uniform(count, *area, generator) * height * width
    ratios = _uniform(count, math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    heights, widths = (areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()
    fits = (heights < height + full) & (widths < width + full)
    first = fits.int().argmax(1, keepdim=True)
    some = fits.any(1)
    h = torch.where(some, heights.gather(1, first)[:, 0], height * full)
    w = torch.where(some, widths.gather(1, first)[:, 0], width * full)
    top = (torch.rand(count, generator=generator) * (height - h + 1)).floor()
    left = (torch.rand(count, generator=generator) * (width - w + 1)).floor()
    return torch.stack([top, left, h, w], 1).long()


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, ATTEMPTS, dtype=torch.float64, generator=generator)
