"""RandAugment's rotations, shears and shifts."""

from collections.abc import Sequence

import torch
from torch import Tensor

GEOMETRY = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


def affine_matrices(operation: Tensor, argument: Tensor, size: Sequence[int]) -> Tensor:
    """(B, 2, 3) float32 maps from the coordinates of the result to those of the image.

    Args:
        operation: (B,) index into `GEOMETRY`; anything beyond it gives the identity.
        argument: (B,) float64: degrees, shear factor, or share of the width or height.
        size: height and width.
    """
    height, width = size
    degrees, shear_x, shear_y, shift_x, shift_y = (
        torch.where(operation == i, argument, 0.0) for i in range(len(GEOMETRY))
    )
    cos, sin = torch.deg2rad(-degrees).cos(), torch.deg2rad(-degrees).sin()
    x = [cos, sin + shear_x, (1 - cos) * width / 2 - sin * height / 2 + shift_x * width]
    y = [shear_y - sin, cos, (1 - cos) * height / 2 + sin * width / 2 + shift_y * height]
    return torch.stack([torch.stack(x, 1), torch.stack(y, 1)], 1).float()


def affine(images: Tensor, matrices: Tensor, bicubic: bool, fill: Tensor) -> Tensor:
    """Transform (B, C, H, W) uint8 images as PIL's `Image.transform` does: centres of pixels lie at 0.5,
    edges repeat within the image, `fill` (C,) lies beyond it, bicubic has a = -1, results are truncated."""
    channels, height, width = images.shape[1:]
    column = (torch.arange(width, device=images.device) + 0.5).repeat(height)
    row = (torch.arange(height, device=images.device) + 0.5).repeat_interleave(width)
    x, y = (m[:, :1] * column + m[:, 1:2] * row + m[:, 2:] for m in matrices.unbind(1))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    dx, dy = (x - 0.5 - left)[:, None], (y - 0.5 - top)[:, None]

    taps = (-1, 0, 1, 2) if bicubic else (0, 1)
    pixels = images.flatten(2).float()
    columns = [(left + i).clamp_(0, width - 1) for i in taps]
    lines = []
    for i in taps:
        start = (top + i).clamp_(0, height - 1) * width
        indices = [(start + c).long()[:, None].expand(-1, channels, -1) for c in columns]
        lines.append(_interpolate([pixels.gather(2, index) for index in indices], dx))
    values = _interpolate(lines, dy).clamp_(0, 255).to(torch.uint8)
    return torch.where(inside[:, None], values, fill[:, None]).view_as(images)


def _interpolate(taps: list[Tensor], at: Tensor) -> Tensor:
    """Between the middle two of four taps, or between two; exact where all are equal, as truncation needs."""
    if len(taps) == 2:
        return torch.lerp(taps[0], taps[1], at)
    a, b, c, d = taps
    return b + at * (c - a + at * (2 * (a - b) + c - d + at * (b - a + d - c)))
