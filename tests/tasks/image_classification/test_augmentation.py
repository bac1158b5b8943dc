import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop as pil_resized_crop

from oialr_hpo.tasks.image_classification.augmentation import TrainAugmentation, normalise
from oialr_hpo.tasks.image_classification.augmentation.colour import COLOUR
from oialr_hpo.tasks.image_classification.augmentation.cropping import CROP_RATIO, resized_crop
from oialr_hpo.tasks.image_classification.augmentation.erasing import random_erasing
from oialr_hpo.tasks.image_classification.augmentation.geometry import GEOMETRY, affine, affine_matrices
from oialr_hpo.tasks.image_classification.augmentation.normalising import channels_first
from oialr_hpo.tasks.image_classification.augmentation.rand_augment import (
    ARGUMENTS,
    OPERATIONS,
    RandAugment,
    enhancement,
)
from oialr_hpo.tasks.image_classification.augmentation.rectangles import rectangles
from oialr_hpo.tasks.image_classification.datasets import load_images

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
FILL = (125, 123, 114)
COUNT = 200


@pytest.fixture(scope="module")
def many(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """2,000 real images of all classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OIALR_CACHE", str(tmp_path_factory.mktemp("cache")))
        images = load_images("cifar10", "test", data_dir).images
    return torch.from_numpy(np.array(images[:: len(images) // 2000][:2000]))


@pytest.fixture(scope="module")
def images(many: Tensor) -> Tensor:
    return many[::10]


def stack(results: list[Image.Image]) -> Tensor:
    return channels_first(torch.from_numpy(np.stack([np.asarray(result) for result in results])))


def assert_equal_but_for_rounding(ours: Tensor, theirs: Tensor, share: float) -> None:
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= share


def levels(count: int) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    level = torch.rand(count, dtype=torch.float64, generator=generator)
    level[0] = 0
    return level, torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)


@pytest.mark.parametrize("name", COLOUR)
def test_colour_operations_match_pil(name: str, images: Tensor) -> None:
    argument = ARGUMENTS[name](*levels(COUNT))
    ours = COLOUR[name](channels_first(images), argument.float()[:, None, None, None])
    values: list[list[float]] = [[value] for value in argument.tolist()]
    if name in ("AutoContrast", "Equalize", "Invert"):
        values = [[]] * COUNT
    elif name in ("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd"):
        values = [[int(value)] for (value,) in values]
    operation = auto_augment.NAME_TO_OP[name]
    theirs = [operation(Image.fromarray(i.numpy()), *v) for i, v in zip(images, values, strict=True)]
    # PIL stretches with floating-point numbers that fall just short of whole ones
    assert_equal_but_for_rounding(ours, stack(theirs), 0.01 if name == "AutoContrast" else 0)


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("name", GEOMETRY)
def test_geometric_operations_match_pil(name: str, bicubic: bool, images: Tensor) -> None:
    argument = ARGUMENTS[name](*levels(COUNT))
    matrices = affine_matrices(torch.full((COUNT,), GEOMETRY.index(name)), argument, (32, 32))
    ours = affine(channels_first(images), matrices, bicubic, torch.tensor(FILL, dtype=torch.uint8))
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    operation = auto_augment.NAME_TO_OP[name]
    theirs = [
        operation(Image.fromarray(image.numpy()), value, fillcolor=FILL, resample=resample)
        for image, value in zip(images, argument.tolist(), strict=True)
    ]
    assert_equal_but_for_rounding(ours, stack(theirs), 1e-3)


@pytest.mark.parametrize("bicubic", [False, True])
def test_resized_crop_matches_pil(bicubic: bool, images: Tensor) -> None:
    boxes = rectangles(COUNT, (32, 32), (0.1, 1), CROP_RATIO, True, Generator().manual_seed(0))
    ours = resized_crop(channels_first(images), boxes, torch.full((COUNT,), bicubic))
    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    theirs = [
        pil_resized_crop(Image.fromarray(image.numpy()), *box, [32, 32], mode)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    assert_equal_but_for_rounding(ours, stack(theirs), 1e-3)


def test_arguments_match_timm() -> None:
    level, sign = levels(200)
    level[1] = 1
    for name in OPERATIONS:
        ours = ARGUMENTS[name](level, sign).tolist()
        argument = auto_augment.LEVEL_TO_ARG[name]
        theirs = [(argument(10 * x, {}) if argument else (0,))[0] for x in level.tolist()]
        for mine, other, s in zip(ours, theirs, sign.tolist(), strict=True):
            mirrored = max(0.1, 2 - other) if ARGUMENTS[name] is enhancement else -other
            assert min(abs(mine - other), abs(mine - mirrored)) < 1e-6, (name, s)


def test_operations_are_timms() -> None:
    assert sorted(OPERATIONS) == sorted(auto_augment._RAND_INCREASING_TRANSFORMS)


def test_distribution_matches_timm(many: Tensor) -> None:
    """Statistics of each channel, of the image's parts and of its roughness, over 2,000 images."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    transform = create_transform(
        32, is_training=True, scale=(0.8, 1.0), auto_augment="rand-m9-mstd0.5-inc1", interpolation="random",
        re_prob=0.25, re_mode="pixel", mean=MEAN, std=STD,
    )  # fmt: skip

    def theirs(image: Tensor) -> Tensor:
        while True:
            try:
                return transform(Image.fromarray(image.numpy()))
            except ValueError:  # recent versions of PIL refuse to posterize to 0 bits
                continue

    ours = TrainAugmentation(MEAN, STD)(many, Generator().manual_seed(0))
    expected = torch.stack([theirs(image) for image in many])

    def statistics(x: Tensor) -> Tensor:
        roughness = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
        per_image = x.mean((1, 2, 3))
        return torch.cat([
            x.mean((0, 2, 3)), x.std((0, 2, 3)), x.square().mean((0, 2, 3)),
            x[..., :4].mean((0, 2, 3)), x[..., :4, :].std((0, 2, 3)),
            torch.stack([roughness.mean(), roughness.std(), per_image.std()]),
        ])  # fmt: skip

    # standard errors are about 0.01 to 0.02
    torch.testing.assert_close(statistics(ours), statistics(expected), atol=0.06, rtol=0)


def test_crops_are_drawn_as_by_timm() -> None:
    random.seed(0)
    image = Image.new("RGB", (32, 32))
    crop = RandomResizedCropAndInterpolation(32, (0.8, 1.0), CROP_RATIO, "random")
    theirs = torch.tensor([crop.get_params(image, (0.8, 1.0), CROP_RATIO) for _ in range(4000)]).float()
    ours = rectangles(4000, (32, 32), (0.8, 1.0), CROP_RATIO, True, Generator().manual_seed(0)).float()
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.15, rtol=0)


def test_erasing_is_drawn_as_by_timm() -> None:
    random.seed(0)
    torch.manual_seed(0)
    theirs = RandomErasing(0.25, mode="pixel", device="cpu")(torch.full((4000, 3, 32, 32), 9.0))
    ours = random_erasing(torch.full((4000, 3, 32, 32), 9.0), 0.25, Generator().manual_seed(0))
    for statistic in (
        lambda x: (x != 9).flatten(1).any(1).float().mean(),
        lambda x: (x != 9).float().mean(),
        lambda x: (x != 9).float()[..., :8, :].mean(),
        lambda x: x[x != 9].mean(),
        lambda x: x[x != 9].std(),
    ):
        torch.testing.assert_close(statistic(ours), statistic(theirs), atol=0.03, rtol=0)


def test_each_operation_is_drawn_with_its_probability() -> None:
    """Inverting black shows how often one of fifteen operations was drawn and applied."""
    black = torch.zeros(6000, 3, 8, 8, dtype=torch.uint8)
    fill = torch.zeros(3, dtype=torch.uint8)
    once = RandAugment.parse("rand-m9-n1-p0.6-inc1")(black, fill, Generator().manual_seed(0))
    values, counts = once.amax((1, 2, 3)).unique(return_counts=True)
    assert values.tolist() == [0, 99, 255]  # 99: SolarizeAdd at level 9
    shares = counts[1:] / len(black)
    assert shares == pytest.approx([0.6 / 15, 0.6 / 15], abs=0.01)


def test_same_seed_same_batch(images: Tensor) -> None:
    augment = TrainAugmentation(MEAN, STD)
    first, again, other = (augment(images, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (COUNT, 3, 32, 32) and first.dtype == torch.float32


def test_input_stays_as_it_is(images: Tensor) -> None:
    before = images.clone()
    TrainAugmentation(MEAN, STD)(images, Generator().manual_seed(0))
    assert torch.equal(images, before)


def test_images_keep_their_place() -> None:
    """Solid images of many greys: where nothing but a crop applies, each keeps its own grey."""
    greys = torch.arange(0, 256, dtype=torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3)
    augment = TrainAugmentation((0,) * 3, (1,) * 3, auto_augment="rand-m0-inc1", random_erasing=0)
    batch = (augment(greys, Generator().manual_seed(0)) * 255).round()
    unchanged = (batch == greys.permute(0, 3, 1, 2)).flatten(1).all(1)
    assert unchanged.float().mean() > 0.7  # all but those inverted, which is the one change to solid images


def test_switched_off_it_is_normalise(images: Tensor) -> None:
    augment = TrainAugmentation(MEAN, STD, auto_augment=None, crop_scale=None, hflip=0, random_erasing=0)
    expected = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(normalise(images, MEAN, STD), expected)
    assert torch.equal(augment(images, Generator()), normalise(images, MEAN, STD))


def test_flip_always(images: Tensor) -> None:
    augment = TrainAugmentation(MEAN, STD, auto_augment=None, crop_scale=None, hflip=1, random_erasing=0)
    assert torch.equal(augment(images, Generator()), normalise(images.flip(2), MEAN, STD))


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5-inc1"])
def test_digits(auto_augment: str | None) -> None:
    digits = torch.from_numpy(load_images("digits", "train").images[:500].copy())
    augment = TrainAugmentation((0.3,), (0.37,), auto_augment=auto_augment, hflip=0)
    batch = augment(digits, Generator().manual_seed(0))
    assert batch.shape == (500, 1, 8, 8) and batch.isfinite().all()
    assert batch.std() == pytest.approx(1, abs=0.35)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 5), height=st.integers(3, 20), width=st.integers(3, 20), channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31), smallest=st.floats(0.05, 1),
)  # fmt: skip
def test_any_batch_comes_back_finite(
    count: int, height: int, width: int, channels: int, seed: int, smallest: float
) -> None:
    generator = Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, height, width, channels), dtype=torch.uint8, generator=generator)
    augment = TrainAugmentation((0.5,) * channels, (0.2,) * channels, crop_scale=(smallest, 1), random_erasing=1)
    batch = augment(pixels, generator)
    assert batch.shape == (count, channels, height, width) and batch.isfinite().all()


def test_rand_augment_notation() -> None:
    assert RandAugment.parse("rand-m9-mstd0.5-inc1") == RandAugment(9, 0.5, 2, 0.5)
    assert RandAugment.parse("rand-inc1-n3-p0.25") == RandAugment(10, 0, 3, 0.25)


@pytest.mark.parametrize(
    "config", ["rand-m9-mstd0.5", "rand-m9-inc0", "augmix-m3", "rand-m9-inc1-tweights", "rand-mx-inc1", "",
               "rand-m9-m8-inc1", "rand-m11-inc1", "rand-p2-inc1", "rand-m9-inc1-mmax20",
               "rand-n1.5-inc1"],
)  # fmt: skip
def test_other_notations_are_refused(config: str) -> None:
    with pytest.raises(ValueError, match="auto_augment") as error:
        TrainAugmentation(MEAN, STD, auto_augment=config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "knob", [{"hflip": 1.5}, {"random_erasing": -0.1}, {"crop_scale": (0.9, 0.8)}, {"crop_scale": (0, 1)}]
)
def test_knobs_out_of_range_are_refused(knob: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(knob))):
        TrainAugmentation(MEAN, STD, **knob)


def test_other_images_are_refused(images: Tensor) -> None:
    for wrong in (images.float(), images.permute(0, 3, 1, 2), images[0]):
        with pytest.raises(ValueError, match="not uint8"):
            TrainAugmentation(MEAN, STD)(wrong, Generator())
