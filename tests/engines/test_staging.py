"""Data on a node's local disk, staged by several real processes at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from oialr_hpo.engines.staging import stage
from oialr_hpo.experiment import Experiment, find_data, load
from oialr_hpo.tasks import DataError, TaskSettings

STAGE = """
import sys
from pathlib import Path
from oialr_hpo.engines import staging
from oialr_hpo.experiment import load
copied, copy = [], staging.shutil.copy2
staging.shutil.copy2 = lambda source, target: (copied.append(source.name), copy(source, target))
experiment = load("autoformer_ettm2_96", ["data.train_windows=8"])
print(staging.stage(experiment, Path(sys.argv[1]), Path(sys.argv[2])), *copied)
"""


@pytest.fixture
def experiment() -> Experiment:
    return load("autoformer_ettm2_96")


def test_many_processes_stage_once_and_a_later_one_reuses_the_copy(data_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STAGE, str(data_dir), str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = sorted(process.communicate(timeout=120)[0].split() for process in processes)
    place = Path(printed[0][0])
    assert printed == [[str(place)], [str(place)], [str(place)], [str(place), "ETTm2.csv.gz"]]
    assert place.is_relative_to(tmp_path)
    assert (place / "ETTm2.csv.gz").read_bytes() == (data_dir / "ETTm2.csv.gz").read_bytes()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.split() == [str(place)]


def test_a_file_that_was_cleaned_away_or_cut_comes_back(data_dir: Path, tmp_path: Path, experiment: Experiment) -> None:
    staged = stage(experiment, data_dir, tmp_path)
    assert staged is not None
    file = staged / "ETTm2.csv.gz"
    whole = file.read_bytes()
    for damage in (file.unlink, lambda: file.write_bytes(whole[:100])):
        damage()
        assert stage(experiment, data_dir, tmp_path) == staged
        assert file.read_bytes() == whole


def test_images_are_decoded_on_the_local_disk(tmp_path: Path) -> None:
    from PIL import Image

    data = tmp_path / "data"
    for split in ("train", "test"):
        for label in range(10):
            (data / split / str(label)).mkdir(parents=True)
            Image.new("RGB", (32, 32), (label, 0, 0)).save(data / split / str(label) / "image.png")
    staged = stage(load("vit_cifar"), data, tmp_path / "local")
    assert staged is not None and staged.is_relative_to(tmp_path / "local")
    assert len(list(staged.glob("t*/*/*.png"))) == 20
    assert len(list((staged / ".oialr_cache").glob("cifar10-train-*"))) == 1
    assert not (data / ".oialr_cache").exists()


def test_data_without_files_is_not_staged(tmp_path: Path) -> None:
    assert stage(load("vit_digits"), None, tmp_path / "local") is None
    assert not (tmp_path / "local").exists()


def test_of_a_task_that_does_not_say_all_files_are_staged(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "text").write_text("abc")
    assert TaskSettings().find_data(tmp_path) == {"part/text": tmp_path / "part" / "text"}
    assert TaskSettings().find_data(None) == {}


def test_a_bad_place_is_one_clear_line(data_dir: Path, tmp_path: Path, experiment: Experiment) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be staged in .*Not a directory.*; choose another --stage-dir"):
        stage(experiment, data_dir, tmp_path / "file")


def test_what_is_staged_is_what_the_experiment_reads(data_dir: Path, experiment: Experiment) -> None:
    assert set(find_data(experiment, data_dir)) == {"ETTm2.csv.gz"}
    assert all(name.startswith("cifar10-") for name in find_data(load("vit_cifar"), data_dir))
