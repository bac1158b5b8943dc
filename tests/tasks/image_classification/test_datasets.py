import io
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oialr_hpo.tasks import DataError
from oialr_hpo.tasks.image_classification.datasets import load_images
from oialr_hpo.tasks.image_classification.image_arrays import ImageArrays

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_CLASS = 12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OIALR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageArrays:
    """The real test split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OIALR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_images("cifar10", "test", data_dir)


@pytest.fixture(scope="module")
def few(real: ImageArrays) -> ImageArrays:
    """The first images of each class."""
    chosen = np.concatenate([np.flatnonzero(real.labels == c)[:PER_CLASS] for c in range(10)])
    return ImageArrays(np.array(real.images[chosen]), real.labels[chosen], real.classes)


def file_names(arrays: ImageArrays) -> list[str]:
    return [f"{arrays.classes[label]}_{i:05}.png" for i, label in enumerate(arrays.labels)]


def pngs(arrays: ImageArrays, split: str) -> dict[str, bytes]:
    files = {}
    for image, label, name in zip(arrays.images, arrays.labels, file_names(arrays), strict=True):
        Image.fromarray(image).save(content := io.BytesIO(), "PNG")
        files[f"{split}/{arrays.classes[label]}/{name}"] = content.getvalue()
    return files


def write_tree(directory: Path, arrays: ImageArrays, split: str = "train") -> None:
    for name, content in pngs(arrays, split).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


def write_zip(path: Path, arrays: ImageArrays, split: str = "train") -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in pngs(arrays, split).items():
            file.writestr(name, content)


def write_batches(directory: Path, arrays: ImageArrays) -> None:
    """The official layout, its order shuffled as there, its strings bytes as Python 2 left them."""
    directory.mkdir()
    shuffled = np.random.RandomState(0).permutation(len(arrays.labels))
    names = file_names(arrays)
    (directory / "batches.meta").write_bytes(pickle.dumps({b"label_names": [c.encode() for c in CLASSES]}, 2))
    parts = {f"data_batch_{i + 1}": part for i, part in enumerate(np.array_split(shuffled, 5))}
    for name, part in {**parts, "test_batch": shuffled[:50]}.items():
        batch = {
            b"data": arrays.images[part].transpose(0, 3, 1, 2).reshape(len(part), -1),
            b"labels": arrays.labels[part].tolist(),
            b"filenames": [names[i].encode() for i in part],
        }
        (directory / name).write_bytes(pickle.dumps(batch, 2))


def assert_same(loaded: ImageArrays, expected: ImageArrays) -> None:
    np.testing.assert_array_equal(loaded.images, expected.images)
    np.testing.assert_array_equal(loaded.labels, expected.labels)
    assert loaded.classes == expected.classes


def test_real_images(real: ImageArrays) -> None:
    assert real.images.shape == (10_000, 32, 32, 3)
    assert isinstance(real.images, np.memmap) and not real.images.flags.writeable
    assert real.labels.dtype == np.int64 and np.bincount(real.labels).tolist() == [1000] * 10
    assert list(real.classes) == CLASSES
    assert (np.diff(real.labels) >= 0).all()
    mean = real.images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, [0.49421428, 0.48513139, 0.45040909], atol=1e-6)


def test_original_image_0_is_where_its_path_sorts(data_dir: Path, real: ImageArrays) -> None:
    if not (data_dir / "cifar10-test.zip").is_file():
        pytest.skip("no cifar10-test.zip")
    with zipfile.ZipFile(data_dir / "cifar10-test.zip") as file:
        names = sorted(name for name in file.namelist() if name.endswith(".png"))
        index = names.index("test/cat/domestic_cat_s_000907.png")
        with file.open(names[index]) as png:
            np.testing.assert_array_equal(real.images[index], np.asarray(Image.open(png)))
    assert real.classes[real.labels[index]] == "cat"


def test_all_layouts_give_the_same_arrays(tmp_path: Path, few: ImageArrays) -> None:
    for name in ("tree", "zips", "folder", "archive"):
        (tmp_path / name).mkdir()
    write_tree(tmp_path / "tree", few)
    even = np.arange(len(few.labels)) % 2 == 0
    names = pngs(few, "train")
    for shard, members in enumerate((even, ~even)):
        with zipfile.ZipFile(tmp_path / "zips" / f"cifar10-train-{shard}.zip", "w") as file:
            for keep, (name, content) in zip(members, names.items(), strict=True):
                if keep:
                    file.writestr(name, content)
    write_batches(tmp_path / "folder" / "cifar-10-batches-py", few)
    with tarfile.open(tmp_path / "archive" / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "folder" / "cifar-10-batches-py", "cifar-10-batches-py")
    for name in ("tree", "zips", "folder", "archive"):
        assert_same(load_images("cifar10", "train", tmp_path / name), few)
    assert len(load_images("cifar10", "test", tmp_path / "archive").labels) == 50


def test_one_shard_is_a_smaller_data_set(tmp_path: Path, few: ImageArrays) -> None:
    write_zip(tmp_path / "cifar10-train-2.zip", few)
    assert_same(load_images("cifar10", "train", tmp_path), few)


def test_cifar100(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    rows = np.random.RandomState(0).randint(0, 256, (200, 3072)).astype(np.uint8)
    labels = [*range(100), *range(100)]
    names = [f"{i:03}.png".encode() for i in range(200)]
    (folder / "train").write_bytes(pickle.dumps({b"data": rows, b"fine_labels": labels, b"filenames": names}))
    classes = [f"class_{i:02}".encode() for i in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": classes}))
    loaded = load_images("cifar100", "train", tmp_path)
    assert loaded.labels.tolist() == sorted(labels) and len(loaded.classes) == 100
    np.testing.assert_array_equal(loaded.images[1], rows[100].reshape(3, 32, 32).transpose(1, 2, 0))


def test_changed_source_is_noticed(tmp_path: Path, few: ImageArrays) -> None:
    write_tree(tmp_path, few)
    assert len(load_images("cifar10", "train", tmp_path).labels) == 10 * PER_CLASS
    inverted = ImageArrays(255 - few.images, few.labels, few.classes)
    write_tree(tmp_path, inverted)
    assert_same(load_images("cifar10", "train", tmp_path), inverted)
    next((tmp_path / "train" / "cat").iterdir()).unlink()
    assert len(load_images("cifar10", "train", tmp_path).labels) == 10 * PER_CLASS - 1


def test_cache_lies_beside_writable_data_and_never_in_read_only_data(
    tmp_path: Path, few: ImageArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OIALR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    for name in ("writable", "read-only"):
        write_zip((tmp_path / name).with_suffix(".zip"), few)
        (tmp_path / name).mkdir()
        (tmp_path / name).with_suffix(".zip").rename(tmp_path / name / "cifar10-train-0.zip")
    (tmp_path / "read-only").chmod(0o555)
    load_images("cifar10", "train", tmp_path / "writable")
    assert (tmp_path / "writable" / ".oialr_cache").is_dir() and not (tmp_path / "user").exists()
    load_images("cifar10", "train", tmp_path / "read-only")
    assert [f.name for f in (tmp_path / "read-only").iterdir()] == ["cifar10-train-0.zip"]
    assert any((tmp_path / "user" / "oialr_hpo").glob("cifar10-train-*/images.npy"))


LOADER = """
import logging, sys
from pathlib import Path
from oialr_hpo.tasks.image_classification.datasets import load_images
logging.basicConfig(level=logging.INFO)
print("ready", flush=True)
sys.stdin.readline()
print(load_images("cifar10", "train", Path(sys.argv[1])).images.sum(), flush=True)
"""


def start_loader(directory: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", LOADER, str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_processes_that_start_together_decode_once(tmp_path: Path, real: ImageArrays) -> None:
    tenth = ImageArrays(real.images[::10], real.labels[::10], real.classes)
    write_zip(tmp_path / "cifar10-train-0.zip", tenth)
    processes = [start_loader(tmp_path) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [int(out) for out, _ in results] == [int(tenth.images.sum())] * 2
    assert sum(err.count("decoded 1000 images") for _, err in results) == 1


def test_killed_decoder_does_not_block_the_next(tmp_path: Path, cache: Path, real: ImageArrays) -> None:
    tenth = ImageArrays(real.images[::10], real.labels[::10], real.classes)
    write_zip(tmp_path / "cifar10-train-0.zip", tenth)
    victim = start_loader(tmp_path)
    assert victim.stdin is not None
    victim.stdin.write("\n")
    victim.stdin.flush()
    while not (cache / "lock").exists():
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    (cache / "partial").mkdir(exist_ok=True)
    (cache / "partial" / "images.npy").write_bytes(b"half written")
    loaded = load_images("cifar10", "train", tmp_path)
    assert_same(loaded, tenth)
    assert not (cache / "partial").exists()


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_missing_data_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(DataError) as error:
        load_images("cifar10", "train", tmp_path)
    assert str(tmp_path) in one_line(error) and "cifar-10-python.tar.gz" in str(error.value)


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist") as error:
        load_images("cifar10", "train", tmp_path / "nowhere")
    one_line(error)


def test_damaged_archive(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b not an archive")
    with pytest.raises(DataError, match="cifar-10-python.tar.gz cannot be decoded") as error:
        load_images("cifar10", "train", tmp_path)
    one_line(error)
    assert not list(cache.glob("cifar10*"))


def test_damaged_png(tmp_path: Path, few: ImageArrays) -> None:
    write_tree(tmp_path, few)
    next((tmp_path / "train" / "dog").iterdir()).write_bytes(b"not a PNG")
    with pytest.raises(DataError, match="train cannot be decoded") as error:
        load_images("cifar10", "train", tmp_path)
    one_line(error)


def test_tree_of_too_few_classes(tmp_path: Path, few: ImageArrays) -> None:
    write_tree(tmp_path, ImageArrays(few.images[: 3 * PER_CLASS], few.labels[: 3 * PER_CLASS], few.classes))
    with pytest.raises(DataError, match="3 classes instead of 10"):
        load_images("cifar10", "train", tmp_path)


def test_pickle_that_would_run_code_is_refused(tmp_path: Path, few: ImageArrays) -> None:
    write_batches(tmp_path / "cifar-10-batches-py", few)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match="os.system"):
        load_images("cifar10", "train", tmp_path)


def test_unknown_names() -> None:
    with pytest.raises(DataError, match="'cifar' is unknown; choose one of cifar10, cifar100, digits"):
        load_images("cifar", "train", None)
    with pytest.raises(DataError, match="'validation' is unknown; choose train or test"):
        load_images("digits", "validation", None)  # type: ignore[arg-type]


def test_digits() -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert train.images.shape == (1438, 8, 8, 1) and test.images.shape == (359, 8, 8, 1)
    assert train.images.dtype == np.uint8 and train.images.max() == 255 and not train.images.flags.writeable
    shares = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    np.testing.assert_allclose(shares, 0.2, atol=0.005)
    assert train.classes == tuple("0123456789")


def test_digits_are_those_that_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    expected = sorted(zip(np.rint(values * (255 / 16)).astype(int).tolist(), labels.tolist(), strict=True))
    splits = [load_images("digits", "train"), load_images("digits", "test")]
    images = np.concatenate([split.images.reshape(-1, 64) for split in splits])
    found = np.concatenate([split.labels for split in splits])
    assert sorted(zip(images.tolist(), found.tolist(), strict=True)) == expected
