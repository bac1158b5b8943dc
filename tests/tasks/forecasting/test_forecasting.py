import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oialr_hpo.experiment import load
from oialr_hpo.tasks import DataError
from oialr_hpo.tasks.forecasting import Forecasting
from oialr_hpo.tasks.forecasting.calendar import time_features
from oialr_hpo.tasks.forecasting.datasets import load_series
from oialr_hpo.tasks.forecasting.ett import parse_ett
from oialr_hpo.tasks.forecasting.series import Series
from oialr_hpo.tasks.forecasting.windows import Windows
from oialr_hpo.training.objective import evaluate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def protocol() -> dict[str, Any]:
    path = Path(__file__).parents[4] / "shared" / "reference" / "ettm2_protocol.json"
    if not path.is_file():
        pytest.skip(f"no reference values of the authors' data loader at {path}")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture(scope="module")
def ettm2(data_dir: Path) -> Series:
    return load_series("ETTm2", data_dir)


@pytest.mark.parametrize("pred_len", [96, 192, 336, 720])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_windows_are_those_of_the_authors_loader(
    part: Any, pred_len: int, ettm2: Series, protocol: dict[str, Any]
) -> None:
    expected = protocol[f"{part.replace('validation', 'val')}/{pred_len}"]
    windows = Windows(ettm2, part, seq_len=96, label_len=48, pred_len=pred_len, device=CPU)
    assert len(windows) == expected["windows"]
    past, past_mark, _, _ = windows[slice(0, 1)]
    _, _, future, future_mark = windows[slice(-1, None)]
    assert future.shape[1] == expected["y_len"]
    for found, name in (
        (past[0, 0], "first_x0"),
        (past_mark[0, 0], "first_x0_mark"),
        (future[0, -1], "last_y_last"),
        (future_mark[0, -1], "last_y_mark_last"),
    ):
        np.testing.assert_allclose(found.numpy(), expected[name], atol=1e-5)
    np.testing.assert_allclose(windows.mean, protocol["scaler"]["mean"])
    np.testing.assert_allclose(windows.scale, protocol["scaler"]["scale"])


class LastValue(torch.nn.Module):
    """Repeats the last value that it sees."""

    def forward(self, past: torch.Tensor, past_mark: torch.Tensor, known: torch.Tensor, mark: torch.Tensor) -> Any:
        return past[:, -1:].expand(-1, 96, -1)


def test_metrics_on_the_whole_test_part_are_the_protocols(data_dir: Path, protocol: dict[str, Any]) -> None:
    experiment = load("autoformer_ettm2_96")
    settings = Forecasting.Settings.model_validate({"data": experiment.data, "model": experiment.model})
    task = Forecasting(settings, batch_size=32, seed=0, device=CPU, data_dir=data_dir, split="test")
    metrics = task.evaluate(LastValue(), "test")
    assert metrics["mse"] == pytest.approx(protocol["persistence/test/96"]["mse"], rel=1e-5)
    assert metrics["mae"] == pytest.approx(protocol["persistence/test/96"]["mae"], rel=1e-5)


def test_windows_are_views_of_one_series() -> None:
    series = load_series("ecg")
    windows = Windows(series, "train", seq_len=48, label_len=24, pred_len=24, device=CPU)
    past, _, future, _ = windows[slice(0, 100)]
    assert past.untyped_storage().data_ptr() == windows.series.untyped_storage().data_ptr()
    torch.testing.assert_close(past[:, 24:], future[:, :24])


def test_time_features_span_half_to_half() -> None:
    times = np.arange("2016-01-01T00:00", "2017-01-01T00:00", 15, dtype="datetime64[m]")
    features = time_features(times, "t")
    assert features.shape == (len(times), 5)
    assert features.min() == -0.5 and features.max() == 0.5
    assert time_features(times, "h").shape[1] == 4


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "ETTm2.csv").write_text("date,OT\n")
    with pytest.raises(DataError, match=r"ETTm2.csv is not the official ETTm2.csv \(md5 .*\); replace it by"):
        load_series("ETTm2", tmp_path)
    with pytest.raises(DataError, match="has the columns date,OT"):
        parse_ett(b"date,OT\n1,2\n", tmp_path / "mine.csv")


def test_the_quick_experiment_learns() -> None:
    small = load("autoformer_quick", ["data.train_windows=256", "training.epochs=2"])
    records = list(evaluate(small.fixed(), seed=0))
    assert records[0]["total_percent"] > 150 and records[0]["ranks"]
    assert records[-1]["mse"] < 1.5 * records[0]["mse"]  # over six seeds 0.93 to 1.01 of it
    (*_, tested) = evaluate(small.fixed(), seed=0, split="test")
    assert tested["mse"] != records[-1]["mse"] and np.isfinite(tested["mae"])
