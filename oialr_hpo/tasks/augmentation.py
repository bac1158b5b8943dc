"""timm's training transform for small images, on whole batches and on the device that trains.

Every operation follows what PIL does to one image, so that published recipes keep their meaning; see
`timm.data.create_transform` and `timm/data/auto_augment.py`. Images are (B, C, H, W) uint8 between
operations, as PIL rounds them there too. What to do with which image is drawn on the CPU: the GPU is never
waited for, and its images get the same crops and operations as they would on the CPU.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MAX_LEVEL = 10.0
CROP_RATIO = (3 / 4, 4 / 3)
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
ATTEMPTS = 10


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
            flipped = _send(torch.rand(len(images), generator=generator) < self.hflip, images.device)
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        if self.rand_augment is not None:
            fill = torch.tensor([min(255, round(255 * value)) for value in self.mean], dtype=torch.uint8)
            images = self.rand_augment(images, _send(fill, images.device), generator)
        batch = _normalise(images, self.mean, self.std)
        return random_erasing(batch, self.random_erasing, generator) if self.random_erasing > 0 else batch


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, H, W, C) uint8 to (B, C, H, W) float32 of zero mean and unit variance, for evaluation."""
    return _normalise(channels_first(images), mean, std)


def channels_first(images: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W).

    Raises:
        ValueError: the images are not uint8 with one or three channels at the end.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, not uint8 (B, H, W, 1 or 3)")
    return images.permute(0, 3, 1, 2).contiguous()


def _normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    scale = torch.tensor([[1 / (255 * s), -m / s] for m, s in zip(mean, std, strict=True)])
    factor, shift = _send(scale, images.device).T[..., None, None]
    return images.float().mul_(factor).add_(shift)


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, ATTEMPTS, dtype=torch.float64, generator=generator)


def _rectangles(
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


def random_resized_crop(images: Tensor, scale: tuple[float, float], generator: Generator) -> Tensor:
    """Crop a rectangle of 3:4 to 4:3 and resize it to the whole, bilinearly or bicubically at random."""
    count, size = len(images), (images.shape[2], images.shape[3])
    boxes = _rectangles(count, size, scale, CROP_RATIO, True, generator)
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
    cases = _send(cases, device)[:, None, None]
    start, length, cubic = cases // 2 // (size + 1), cases // 2 % (size + 1), cases % 2
    pixel = torch.arange(size, device=device) + 0.5
    distance = (pixel - start - pixel[:, None] * (length / size)).abs()
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    keys = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = torch.where(cubic > 0, keys, (1 - distance).clamp(min=0))
    weights = weights * ((pixel > start) & (pixel < start + length))
    return (weights / weights.sum(-1, keepdim=True))[_send(case, device)]


def random_erasing(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Fill a rectangle of some of the normalised images with normal noise (Zhong et al. 2017, as in timm).

    Changes `images`, (B, C, H, W) float, in place.
    """
    count, channels, height, width = images.shape
    chosen = torch.nonzero(torch.rand(count, generator=generator) < probability)[:, 0]
    boxes = _rectangles(len(chosen), (height, width), ERASED_AREA, ERASED_RATIO, False, generator)
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
    chosen = _send(chosen, images.device)
    top, left, h, w = _send(boxes, images.device).T[:, :, None, None]
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    erased = (row >= top) & (row < top + h) & (column >= left) & (column < left + w)
    images[chosen] = torch.where(erased[:, None], noise, images[chosen])
    return images


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
        return images[_send(torch.argsort(position), images.device)]

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

        images = images[_send(order, device)]
        matrices = _send(affine_matrices(operation, argument, images.shape[2:])[order], device)
        arguments = _send(argument[order].float(), device)[:, None, None, None]
        for g, (start, stop) in enumerate(zip([0, *stops], stops[:-1], strict=False)):
            part = slice(start, stop)
            if start == stop:
                continue
            if g < 2:
                images[part] = affine(images[part], matrices[part], g == 1, fill)
            else:
                images[part] = COLOUR[OPERATIONS[g - 2 + len(GEOMETRY)]](images[part], arguments[part])
        return images, position[order]


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


GEOMETRY = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
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
OPERATIONS = (*GEOMETRY, *COLOUR)


def _none(level: Tensor, sign: Tensor) -> Tensor:
    return torch.zeros_like(level)


def _enhancement(level: Tensor, sign: Tensor) -> Tensor:
    return (1 + 0.9 * level * sign).clamp(min=0.1)


# name -> argument of the operation, from levels in 0..1 and random signs, (B,) each
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
    "ColorIncreasing": _enhancement,
    "ContrastIncreasing": _enhancement,
    "BrightnessIncreasing": _enhancement,
    "SharpnessIncreasing": _enhancement,
}
