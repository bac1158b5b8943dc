"""Folders of images as users have them: what belongs to a class, what is damaged, what the pixels are."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from oialr_hpo.engines.staging import stage
from oialr_hpo.experiment import load, prepare_data
from oialr_hpo.tasks import DataError
from oialr_hpo.tasks.image_folder import ImageFolder
from oialr_hpo.tasks.image_folder.reading import check_readable, read_rgb
from oialr_hpo.tasks.image_folder.tree import find_tree

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes, a colour each: eight training images and two others."""
    for part, count in (("train", 8), ("val", 2)):
        for name, colour in COLOURS.items():
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (20, 20), colour).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def task(root: Path, split: Any = "test", **arguments: Any) -> ImageFolder:
    data = {"dataset": ".", "image_size": 16, "validation_fraction": 0.25, "workers": 1, "mean": [0, 0, 0]}
    model = {"name": "torchvision/resnet18", "arguments": {"num_classes": 3} | arguments}
    settings = ImageFolder.Settings.model_validate({"data": data | {"std": [1, 1, 1]}, "model": model}, strict=False)
    settings.prepare_data(root)
    return ImageFolder(settings, batch_size=8, seed=0, device=torch.device("cpu"), data_dir=root, split=split)


class Colour(torch.nn.Module):
    """Knows the classes of `COLOURS` by their numbers in training."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def move(root: Path, name: str) -> None:
    shutil.move(root / "val" / name, root / "moved")


def hidden(root: Path) -> None:
    for part in ("train", "val"):
        for junk in (".ipynb_checkpoints", "__MACOSX", "a/.ipynb_checkpoints"):
            (root / part / junk).mkdir()
            Image.new("RGB", (20, 20)).save(root / part / junk / "0.png")
        (root / part / "a" / "._0.png").write_bytes(b"resource fork")
        (root / part / "a" / "Thumbs.db").write_bytes(b"thumbnails")
        (root / part / "a" / "0.xml").write_text("boxes")


def other_suffixes(root: Path) -> None:
    for part in ("train", "val"):
        for name, suffix in (("a", "webp"), ("b", "BMP"), ("c", "Tiff")):
            for i, file in enumerate(sorted((root / part / name).iterdir())):
                if i:
                    Image.open(file).save(file.with_suffix(f".{suffix}"), lossless=True)
                    file.unlink()


def linked(root: Path) -> None:
    for part in ("train", "val"):
        shutil.move(root / part / "a", root / f"{part}-a")
        os.symlink(root / f"{part}-a", root / part / "a")
        os.symlink(root / part, root / part / "b" / "back")


def deeper(root: Path) -> None:
    for part in ("train", "val"):
        shutil.move(root / part / "b", root / "images")
        (root / part / "b").mkdir()
        shutil.move(root / "images", root / part / "b" / "images")


def stray(root: Path) -> None:
    Image.new("RGB", (20, 20)).save(root / "train" / "0.png")
    (root / "train" / "README.txt").write_text("three colours")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: move(root, "b"), lambda root: move(root, "a"), lambda root: shutil.rmtree(root / "val" / "c"),
        hidden, other_suffixes, linked, deeper, stray,
    ],
)  # fmt: skip
def test_a_class_keeps_its_number(root: Path, change: Callable[[Path], None]) -> None:
    change(root)
    tree = find_tree(root)
    assert tree.classes == tuple(COLOURS) and len(tree.files["train"]) == 24
    images = task(root)
    assert images.evaluate(Colour(), "test")["top1"] == 100
    for batch, labels in images.training_batches(24):
        assert torch.equal(Colour()(batch).argmax(1), labels)


@pytest.mark.parametrize(("change", "word"), [(lambda root: move(root, "b"), "no images of b"), (stray, "0.png in no")])
def test_what_is_left_out_is_said(
    root: Path, change: Callable[[Path], None], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(root)
    with caplog.at_level(logging.WARNING):
        task(root)
    (record,) = caplog.records
    assert word in record.getMessage()


def empty(root: Path) -> None:
    for file in (root / "train" / "b").iterdir():
        file.rename(file.with_suffix(".npy"))


def dangling(root: Path) -> None:
    shutil.rmtree(root / "train" / "b")
    os.symlink(root / "nowhere", root / "train" / "b")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda root: (root / "val" / "a").rename(root / "val" / "aa"),
         "aa not among the classes of train/; rename it to a"),
        (lambda root: (root / "train" / "d").mkdir(), "no images in d"),
        (empty, "no images in b"),
        (dangling, "no images in b"),
        (lambda root: [file.unlink() for file in root.glob("val/*/*")], "no images in any class"),
        (lambda root: [file.rename(root / "val" / f"{file.parent.name}{file.name}") for file in root.glob("val/*/*")]
                      + [folder.rmdir() for folder in root.glob("val/?")], "no class directories but 6 images"),
        (lambda root: shutil.rmtree(root / "val"), "val holds no class directories; put CLASS"),
        (lambda root: (root / "train" / "x\ny").mkdir(), r"no images in x\\ny"),
    ],
)  # fmt: skip
def test_classes_that_do_not_fit_are_one_line(root: Path, change: Callable[[Path], Any], word: str) -> None:
    change(root)
    with pytest.raises(DataError, match=word) as error:
        task(root)
    assert "\n" not in str(error.value) and len(str(error.value).replace(str(root), "")) < 250


def test_fewer_outputs_than_classes_are_one_line(root: Path) -> None:
    with pytest.raises(DataError, match="has 3 classes, the network 2 outputs; set model.arguments.num_classes to 3"):
        task(root, num_classes=2)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("timm", "", "timm labels ILSVRC2012_val_00000001.JPEG to 00050000, and .*val holds others"),
        ("real.json", "[[1], [2]]", "00000002, and"),
        ("real.json", "[[1", "real.json cannot be read"),
        ("none.json", "", "none.json cannot be read"),
    ],
)
def test_real_labels_of_other_images_are_refused_before_a_training(
    root: Path, name: str, content: str, word: str
) -> None:
    (root / "real.json").write_text(content)
    experiment = load("vit_b_16_imagenet", ["data.dataset=.", f"data.real_labels={name}"])
    with pytest.raises(DataError, match=word):
        prepare_data(experiment, root)


def damage(root: Path) -> list[Path]:
    """Cut off, empty, no image, a link to nowhere, rewritten in the middle."""
    cut, nothing, text, link, middle = (root / "val" / "a" / f"bad{i}.png" for i in range(5))
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(root / "noise.png")
    content = (root / "noise.png").read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    nothing.write_bytes(b"")
    text.write_text("not an image")
    os.symlink(root / "nowhere.png", link)
    middle.write_bytes(content[:1000] + bytes(1000) + content[2000:])
    Image.fromarray(noise).save(jpeg := root / "train" / "c" / "bad5.jpg")
    jpeg.write_bytes(jpeg.read_bytes()[:-700])
    return [cut, nothing, text, link, middle, jpeg]


def test_damaged_images_are_counted_and_named_before_a_training(root: Path) -> None:
    damaged = damage(root)
    with pytest.raises(
        DataError, match=r"6 of 36 images cannot be read: train/c/bad5.jpg, val/a/bad0.png, .* and 3 more"
    ):
        task(root)
    for file in damaged:
        with pytest.raises(DataError, match=f"{file.name} cannot be read"):
            read_rgb(str(file))
        file.unlink()
    task(root)


def test_of_a_large_data_set_files_that_end_too_early_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *found, middle, jpeg = damage(root)
    monkeypatch.setattr("oialr_hpo.tasks.image_folder.reading.DECODED_BYTES", 0)
    with pytest.raises(DataError, match="5 of 36 images cannot be read"):
        check_readable(find_tree(root))


def test_an_image_that_is_damaged_later_ends_the_training_with_its_name(root: Path) -> None:
    images = task(root)
    for file in root.glob("*/*/1.png"):
        file.write_bytes(file.read_bytes()[:40])
    for read in (lambda: images.evaluate(Colour(), "test"), lambda: list(images.train_batches(1))):
        with pytest.raises(DataError, match=r"^/[^\n]*1.png cannot be read \([^\n]*\); replace or remove it$"):
            read()


RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
GREY = np.repeat(RAMP[..., None], 3, axis=2)


def upside_down(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(RAMP[::-1, ::-1]).save(path, exif=exif)


def see_through(mode: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        alpha = np.where(RAMP < 128, 0, 255).astype(np.uint8)
        image = Image.fromarray(GREY).convert("RGBA")
        image.putalpha(Image.fromarray(alpha))
        image.convert(mode).save(path)

    return write


def palette(path: Path) -> None:
    image = Image.fromarray(RAMP).convert("P")
    image.info["transparency"] = 7
    image.save(path, transparency=7)


WHITE_BELOW = np.where(GREY < 128, 255, GREY)


@pytest.mark.parametrize(
    ("suffix", "write", "expected"),
    [
        ("png", lambda path: Image.fromarray(RAMP.astype(np.uint16) * 257).save(path), GREY),
        ("tif", lambda path: Image.fromarray(RAMP.astype(np.int32) * 257).save(path), GREY),
        ("tif", lambda path: Image.fromarray(RAMP.astype(np.uint16) * 257).save(path), GREY),
        ("tif", lambda path: Image.fromarray(RAMP.astype(np.int32) * (2**31 // 256)).save(path), GREY),
        ("tif", lambda path: Image.fromarray(RAMP.astype(np.float32) / 255).save(path), GREY),
        ("tif", lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path), GREY),
        ("png", upside_down, GREY),
        ("tif", lambda path: Image.fromarray(GREY).convert("CMYK").save(path), GREY),
        ("png", see_through("RGBA"), WHITE_BELOW),
        ("png", see_through("LA"), WHITE_BELOW),
        ("png", palette, np.where(GREY == 7, 255, GREY)),
        ("png", lambda path: Image.fromarray(RAMP > 127).save(path), np.where(GREY > 127, 255, 0)),
        ("gif", lambda path: Image.fromarray(RAMP).save(path, save_all=True,
                                                        append_images=[Image.new("L", (16, 16))]), GREY),
    ],
)  # fmt: skip
def test_pixels_keep_their_range_and_place(
    suffix: str, write: Callable[[Path], None], expected: Any, tmp_path: Path
) -> None:
    write(path := tmp_path / f"image.{suffix}")
    image = read_rgb(str(path))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image, np.int64), expected, atol=1)


def test_larger_than_pillow_opens_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 100)).save(path := tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"large.png cannot be read \(Image size \(10000 pixels\) exceeds l"):
        read_rgb(str(path))


def test_staging_copies_the_images_and_nothing_else(root: Path, tmp_path: Path) -> None:
    for i, file in enumerate(sorted(root.glob("val/*/?.png"))):
        file.rename(file.with_name(f"ILSVRC2012_val_{i + 1:08}.JPEG"))
    hidden(root)
    linked(root)
    (root / "real.json").write_text("[[0], [0], [1], [1], [2], [2]]")
    experiment = load("vit_b_16_imagenet", ["data.dataset=.", "data.real_labels=real.json"]).fixed()
    staged = stage(experiment, root, tmp_path / "staged")
    assert staged is not None
    copied = sorted(str(file.relative_to(staged)) for file in staged.rglob("*") if file.is_file())
    names = [f"train/{name}/{i}.png" for name in COLOURS for i in range(8)]
    names += [f"val/{name}/ILSVRC2012_val_{2 * k + i + 1:08}.JPEG" for k, name in enumerate(COLOURS) for i in range(2)]
    assert copied == sorted(["lock", "real.json", *names])
