"""Image folders read by timm, and networks for them: they train a step, convert and are analysed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oialr_hpo.experiment import load
from oialr_hpo.oialr import OIALR
from oialr_hpo.tasks import DataError
from oialr_hpo.tasks.image_classification.networks import build_network
from oialr_hpo.tasks.image_folder import ImageFolder
from oialr_hpo.utilization import Accuracy, analyse

SMALL = {
    "resnet18": ({"num_classes": 3, "channels": (8, 16, 24, 32)}, 32),
    "vit_tiny_patch16_224": ({"num_classes": 3, "img_size": 32, "patch_size": 8, "depth": 2}, 32),
    "deit_tiny_patch16_224": ({"num_classes": 3, "img_size": 32, "patch_size": 8, "depth": 2}, 32),
    "swin_tiny_patch4_window7_224": (
        {"num_classes": 3, "img_size": 64, "window_size": 4, "depths": (1, 1), "num_heads": (3, 6)}, 64,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three colours, larger than the networks' inputs and of several shapes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.RandomState(0)
    for part, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("blue", "green", "red")):
            (root / "imagenet" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.randint(0, 120, (40 + i, 48, 3)).astype(np.uint8)
                pixels[..., label] += 100
                number = label * count + i + 1
                Image.fromarray(pixels).save(root / "imagenet" / part / name / f"ILSVRC2012_val_{number:08}.JPEG")
    return root


def task(folders: Path, split: str = "validation", batch_size: int = 8, **settings: object) -> ImageFolder:
    data = {"image_size": 32, "validation_fraction": 0.25, "workers": 1, **settings}
    model = {"name": "torchvision/resnet18", "arguments": {"num_classes": 3}}
    checked = ImageFolder.Settings.model_validate({"data": data, "model": model})
    return ImageFolder(
        checked, batch_size=batch_size, seed=0, device=torch.device("cpu"), data_dir=folders, split=split
    )


@pytest.mark.parametrize("name", SMALL)
def test_networks_for_folders_train_convert_and_are_analysed(name: str, folders: Path) -> None:
    torch.manual_seed(0)
    arguments, size = SMALL[name]
    images = task(folders, image_size=size)
    model = build_network(name, arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    oialr = OIALR(model, optimizer, delay=0, frequency=1)
    batch = next(iter(images.train_batches(1)))
    assert batch[0].shape == (8, 3, size, size)
    images.loss(model, batch).backward()
    optimizer.step()
    oialr.step()
    assert len(oialr.ranks) >= 6
    dense = build_network(name, arguments).eval()
    result = analyse(dense, images.training_batches(6), Accuracy(images.evaluation_batches()), 100)
    assert 0 < result.mlu < 0.5 and result.passes < result.plain_passes


def test_a_folder_gives_the_same_batches_for_the_same_seed_and_epoch(folders: Path) -> None:
    options = {"auto_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 1.0, "interpolation": "random"}
    first, again = task(folders, **options), task(folders, **options)
    before = torch.get_rng_state()
    batches = [list(each.train_batches(epoch)) for each in (first, again) for epoch in (1, 2)]
    assert first.steps_per_epoch == len(batches[0]) == 3
    for (one, labels), (other, other_labels) in zip(batches[0], batches[2], strict=True):
        torch.testing.assert_close(one, other)
        assert torch.equal(labels, other_labels)
    assert not torch.equal(batches[0][0][0], batches[1][0][0]) and len(before) == len(torch.get_rng_state())


def test_val_is_for_testing_and_may_have_real_labels(folders: Path) -> None:
    real = [[0] if i < 4 else [] if i < 8 else [1, 2] for i in range(12)]
    (folders / "imagenet" / "real.json").write_text(json.dumps(real))
    always_blue = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    torch.nn.init.zeros_(always_blue[1].weight)
    always_blue[1].bias.data = torch.tensor([1.0, 0.0, 0.0])
    with torch.no_grad():
        tested = task(folders, "test", real_labels="real.json").evaluate(always_blue, "test")
        validated = task(folders).evaluate(always_blue, "validation")
    assert tested["top1"] == pytest.approx(100 / 3) and tested["real_top1"] == pytest.approx(50)
    assert validated["top1"] == pytest.approx(100 / 3) and "real_top1" not in validated


def test_missing_folders_say_where_they_should_be(folders: Path, tmp_path: Path) -> None:
    settings = load("resnet50_imagenet", ["data.real_labels=null"])
    checked = ImageFolder.Settings.model_validate({"data": settings.data, "model": settings.model})
    checked.prepare_data(folders)
    with pytest.raises(DataError, match="imagenet/train holds no class directories"):
        checked.prepare_data(tmp_path)
    with pytest.raises(DataError, match="give --data-dir"):
        checked.prepare_data(None)
