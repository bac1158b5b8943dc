"""Random rectangles of the images, filled with noise."""

import torch
from torch import Generator, Tensor

from oialr_hpo.tasks.image_classification.augmentation.rectangles import rectangles
from oialr_hpo.tasks.image_classification.augmentation.sending import send

ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)


def random_erasing(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Fill a rectangle of some of the normalised images with normal noise (Zhong et al. 2017, as in timm).

    Changes `images`, (B, C, H, W) float, in place.
    """
    count, channels, height, width = images.shape
    chosen = torch.nonzero(torch.rand(count, generator=generator) < probability)[:, 0]
    boxes = rectangles(len(chosen), (height, width), ERASED_AREA, ERASED_RATIO, False, generator)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    noise = torch.randn(
        len(chosen),
        channels,
        height,
        width,
        generator=Generator(images.device).manual_seed(seed),
        device=images.device,
        dtype=images.dtype,
    )
    chosen = send(chosen, images.device)
    top, left, h, w = send(boxes, images.device).T[:, :, None, None]
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    erased = (row >= top) & (row < top + h) & (column >= left) & (column < left + w)
    images[chosen] = torch.where(erased[:, None], noise, images[chosen])
    return images
