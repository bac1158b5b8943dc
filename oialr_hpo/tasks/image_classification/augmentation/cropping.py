"""Random rectangles of the images, resized to the whole as PIL resizes."""

import torch
from torch import Generator, Tensor

from oialr_hpo.tasks.image_classification.augmentation.rectangles import rectangles
from oialr_hpo.tasks.image_classification.augmentation.sending import send

CROP_RATIO = (3 / 4, 4 / 3)


def random_resized_crop(images: Tensor, scale: tuple[float, float], generator: Generator) -> Tensor:
    """Crop a rectangle of 3:4 to 4:3 and resize it to the whole, bilinearly or bicubically at random."""
    count, size = len(images), (images.shape[2], images.shape[3])
    boxes = rectangles(count, size, scale, CROP_RATIO, True, generator)
    bicubic = torch.rand(count, generator=generator) < 0.5
    return resized_crop(images, boxes, bicubic)


def resized_crop(images: Tensor, boxes: Tensor, bicubic: Tensor) -> Tensor:
    """Crop each image to its box and resize it to the size it had, as PIL's `crop` and `resize` do.

    Args:
        images: (B, C, H, W) uint8.
        boxes: (B, 4) top, left, height, width, on the CPU.
        bicubic: (B,) bool, on the CPU: bicubic (a = -0.5) or bilinear.
    """
    rows = _resampling(images.shape[2], boxes[:, 0], boxes[:, 2], bicubic, images.device)
    columns = _resampling(images.shape[3], boxes[:, 1], boxes[:, 3], bicubic, images.device)
    wide = (images.float() @ columns.transpose(1, 2)[:, None]).add_(0.5).floor_().clamp_(0, 255)
    return (rows[:, None] @ wide).add_(0.5).clamp_(0, 255).to(torch.uint8)


def _resampling(size: int, start: Tensor, length: Tensor, bicubic: Tensor, device: torch.device) -> Tensor:
    """(B, size, size) matrices that stretch the pixels start..start+length over `size` pixels."""
    cases, case = torch.unique((start * (size + 1) + length) * 2 + bicubic, return_inverse=True)
    cases = send(cases, device)[:, None, None]
    start, length, cubic = cases // 2 // (size + 1), cases // 2 % (size + 1), cases % 2
    pixel = torch.arange(size, device=device) + 0.5
    distance = (pixel - start - pixel[:, None] * (length / size)).abs()
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    keys = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = torch.where(cubic > 0, keys, (1 - distance).clamp(min=0))
    weights = weights * ((pixel > start) & (pixel < start + length))
    return (weights / weights.sum(-1, keepdim=True))[send(case, device)]
