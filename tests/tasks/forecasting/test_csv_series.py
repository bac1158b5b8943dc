"""Time series of one's own: what is read, what is refused, and forecasts in the series' own units."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from oialr_hpo.engines.staging import stage
from oialr_hpo.experiment import Experiment, ExperimentError, find_data, load, prepare_data
from oialr_hpo.runs.directory import RunDirectory, RunDirectoryError
from oialr_hpo.tasks import DataError
from oialr_hpo.tasks.forecasting.calendar import time_features
from oialr_hpo.tasks.forecasting.csv_series import load_csv
from oialr_hpo.tasks.forecasting.windows import Windows
from oialr_hpo.training.objective import build_task, evaluate

SHARES = (0.1, 0.2)
CPU = torch.device("cpu")


def written(path: Path, times: Any, header: str = "date,a,b", line: str = "{time},{i},{i}.5") -> Path:
    rows = [line.format(time=str(time).replace("T", " "), i=i) for i, time in enumerate(times)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def hours(count: int) -> Any:
    return np.datetime64("2020-01-30T00") + np.arange(count)


MONTHS = np.datetime64("2019-11") + np.arange(20)
DAYS = np.datetime64("2020-01-03") + np.arange(20)


@pytest.mark.parametrize(
    ("times", "freq", "features", "following"),
    [
        (hours(20).astype("datetime64[s]"), "h", 4, ["2020-01-30T20:00", "2020-01-30T21:00"]),
        (np.datetime64("2020-01-30T00:00") + 15 * np.arange(20), "t", 5, ["2020-01-30T05:00", "2020-01-30T05:15"]),
        (np.datetime64("2020-01-30T00:00:00") + np.arange(20), "s", 6, ["2020-01-30T00:00:20", "2020-01-30T00:00:21"]),
        (np.datetime64("2020-01-01T00:00:00.25") + 250 * np.arange(20), "s", 6,
         ["2020-01-01T00:00:05.25", "2020-01-01T00:00:05.5"]),
        (DAYS, "d", 3, ["2020-01-23", "2020-01-24"]),
        (DAYS[np.is_busday(DAYS)], "b", 3, ["2020-01-23", "2020-01-24"]),
        (np.datetime64("2020-01-01") + 7 * np.arange(20), "w", 2, ["2020-05-20", "2020-05-27"]),
        (MONTHS, "m", 1, ["2021-07-01", "2021-08-01"]),
        ((MONTHS + 1).astype("datetime64[D]") - 1, "m", 1, ["2021-07-31", "2021-08-31"]),
        (MONTHS.astype("datetime64[D]") + 27, "m", 1, ["2021-07-28", "2021-08-28"]),
        (np.datetime64("2019-01") + 3 * np.arange(20), "m", 1, ["2024-01-01", "2024-04-01"]),
        (np.datetime64("1999") + np.arange(20), "m", 1, ["2019-01-01", "2020-01-01"]),
    ],
)  # fmt: skip
def test_any_regular_calendar_is_known(
    times: Any, freq: str, features: int, following: list[str], tmp_path: Path
) -> None:
    series = load_csv(written(tmp_path / "x.csv", times), "date", None, SHARES)
    assert series.freq == freq and series.columns == ("a", "b") and sum(series.rows) == len(times)
    np.testing.assert_array_equal(series.times, times.astype("datetime64[us]"))
    np.testing.assert_array_equal(series.values[:, 1] - series.values[:, 0], 0.5)
    marks = time_features(series.times, freq)
    assert marks.shape == (len(times), features) and np.abs(marks).max() <= 0.5
    np.testing.assert_array_equal(series.following(2), np.array(following, "datetime64[us]"))


def test_the_week_of_the_year_is_isos() -> None:
    days = np.arange("2015-01-01", "2027-01-01", dtype="datetime64[D]")
    weeks = [day.isocalendar()[1] for day in days.tolist()]
    np.testing.assert_allclose(time_features(days, "w")[:, 1], (np.array(weeks) - 1) / 52 - 0.5)


PLAIN = "date,a,b\n2020-01-30 00:00,1.5,2\n2020-01-30 01:00,1234.5,3\n2020-01-30 02:00,0.25,4\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace("2020-01-30 0", "2020/1/30 "),
        PLAIN.replace(" 0", "T0").replace(":00,", ":00:00Z,"),
        PLAIN.replace(":00,", ":00+05:30,"),
        PLAIN.replace("01:00,", "03:00+02:00,").replace(" 00:00,", " 00:00Z,").replace(" 02:00,", " 02:00Z,"),
        PLAIN.replace("\n", "\r\n") + "\r\n\r\n",
        '"' + PLAIN.replace(",", '","').replace("\n", '"\n"').removesuffix('"'),
    ],
)  # fmt: skip
def test_one_table_in_many_hands(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text, newline="")
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("x.csv", "x.csv.gz"):
        series = load_csv(tmp_path / name, "date", None, SHARES)
        np.testing.assert_array_equal(series.values, [[1.5, 2], [1234.5, 3], [0.25, 4]])
        np.testing.assert_array_equal(series.times, np.datetime64("2020-01-30T00", "us") + np.arange(3) * 3_600_000_000)


@pytest.mark.parametrize(
    ("wrong", "right", "word"),
    [
        ("date,", "time,", "no column 'date', but 'time', 'a', 'b';.* as data.date_column"),
        ("date,", "Date,", "did you mean 'Date'"),
        ("a,b", "a,a", "column 'a' is there 2 times"),
        ("a,b", ",b", "a column has no name"),
        ("01:00", "00:00", "line 3: 2020-01-30 00:00 is there twice; remove one"),
        ("30 02:00", "29 02:00", "line 4: 2020-01-29 02:00 comes after 2020-01-30 01:00; sort the rows"),
        ("02:00", "02:30", "line 3 comes 1 hours after the row before, most|line 4 comes 1.5 hours after"),
        ("2020-01-30 01:00", "30.01.2020 01:00", "line 3: '30.01.2020 01:00' is no date; write dates as 2016-07-01"),
        ("2020-01-30 01:00", "2020-13-30 01:00", "line 3: '2020-13-30 01:00' is no date"),
        ("2020-01-30 01:00", "", "line 3: '' is no date"),
        ("2020-01-30 01:00", "2020-01-30 01:00Z", "some dates have a time zone, others none"),
        ("1234.5", "", "line 3, column 'a': the value is missing; fill it"),
        ("1234.5", "NaN", "line 3, column 'a': the value is missing"),
        ("1234.5", "inf", "line 3, column 'a': 'inf' is no number"),
        ("1234.5", "north", "line 3, column 'a': 'north' is no number; leave the column out"),
        ("1234.5", '"1,234"', "line 3, column 'a': '1,234' may be thousands or decimals; write numbers as 1234.5"),
        ("1234.5", "1,234", "line 3 has 4 columns, the first one 3"),
        ("1234.5", '"1234', "cannot be read"),
        ("1234.5", "1\x00", "no text|cannot be read"),
        (PLAIN, "", "is empty; its first line names the columns"),
        (PLAIN[9:], "", "0 rows are too few"),
    ],
)
def test_what_cannot_be_a_series_is_one_line(wrong: str, right: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(PLAIN.replace(wrong, right))
    with pytest.raises(DataError, match=word) as error:
        load_csv(tmp_path / "x.csv", "date", None, SHARES)
    assert "\n" not in str(error.value)


def test_gaps_are_counted_in_the_calendars_own_steps(tmp_path: Path) -> None:
    for times, word in (
        (np.delete(MONTHS, 9), "line 11 comes 2 months after the row before, most rows come 1 months"),
        (np.delete(DAYS[np.is_busday(DAYS)], 8), "line 10 comes 2 business days after"),
        (np.delete(DAYS, 8), "line 10 comes 2 days after"),
        (np.delete(hours(20).astype("datetime64[s]"), 4), "line 6 comes 2 hours after"),
    ):
        with pytest.raises(DataError, match=word):
            load_csv(written(tmp_path / "x.csv", times), "date", None, SHARES)


def test_other_encodings_and_damaged_archives_are_one_line(tmp_path: Path) -> None:
    for name, content, word in (
        ("latin.csv", PLAIN.replace("a", "\u00e4").encode("latin-1"), "is not UTF-8"),
        ("wide.csv", PLAIN.encode("utf-16"), "is not UTF-8"),
        ("x.csv.gz", PLAIN.encode(), "cannot be read"),
        ("cut.csv.gz", gzip.compress(PLAIN.encode())[:-20], "cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=word):
            load_csv(tmp_path / name, "date", None, SHARES)


def experiment(*changes: str) -> Experiment:
    small = ["data.seq_len=8", "data.label_len=4", "data.pred_len=4", "data.train_windows=null", "training.epochs=2"]
    return load("autoformer_quick", [*small, "data.validation_windows=null", *changes]).fixed()


def test_columns_can_be_chosen_and_the_others_hold_anything(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", hours(20), "when,place,load,heat", "{time},north,{i},{i}.5")
    series = load_csv(path, "when", ["heat", "load"], SHARES)
    assert series.columns == ("heat", "load") and series.values[3].tolist() == [3.5, 3]
    for columns, word in (
        (["haet"], "no column 'haet'.*did you mean 'heat'"),
        (["when"], "columns of numbers"),
        ([], "each"),
    ):
        with pytest.raises(DataError, match=word):
            load_csv(path, "when", columns, SHARES)


def test_settings_of_ones_own_file_are_checked_with_the_experiment(tmp_path: Path) -> None:
    for change, word in (
        ("data.dataset=ETTm3", "choose one of ETTh1, ETTh2, ETTm1, ETTm2, ecg, or a .csv file; did you mean 'ETTm"),
        ("data.columns=[OT]", "columns is for files of one's own; ecg has its protocol"),
        ("data.dataset=../x.csv", "below the data directory"),
    ):
        with pytest.raises(ExperimentError, match=word):
            experiment(change)
    with pytest.raises(ExperimentError, match="leave no rows to train on"):
        experiment("data.dataset=x.csv", "data.validation_share=0.5", "data.test_share=0.5")
    with pytest.raises(DataError, match="x.csv: no such file; put it there, or give its directory"):
        prepare_data(experiment("data.dataset=x.csv"), tmp_path)
    written(tmp_path / "x.csv", hours(40))
    with pytest.raises(DataError, match=r"x.csv: seq_len 8 \+ pred_len 4 does not fit the validation part"):
        prepare_data(experiment("data.dataset=x.csv", "data.validation_share=0.05"), tmp_path)


def test_files_are_staged_unless_named_by_their_whole_path(tmp_path: Path) -> None:
    path = written(tmp_path / "data.csv", hours(100))
    assert find_data(experiment("data.dataset=data.csv"), tmp_path) == {"data.csv": path}
    staged = stage(experiment("data.dataset=data.csv"), tmp_path, tmp_path / "staged")
    assert staged is not None and (staged / "data.csv").read_text() == path.read_text()
    assert find_data(experiment(f"data.dataset={path}"), None) == {}
    prepare_data(experiment(f"data.dataset={path}"), None)


def test_a_run_from_before_these_settings_goes_on(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, experiment(), {}, resume=False).release()
    recorded = yaml.safe_load((tmp_path / "experiment.yaml").read_text())
    for name in ("date_column", "columns", "validation_share", "test_share"):
        del recorded["data"][name]
    for name in ("ema_decay", "optimizer_arguments", "accumulation_steps"):
        del recorded["training"][name]
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(recorded))
    RunDirectory.open(tmp_path).check_fits(experiment())
    with pytest.raises(RunDirectoryError, match="data.seq_len was 8, now 10"):
        RunDirectory.open(tmp_path).check_fits(experiment("data.seq_len=10"))


def test_constant_columns_are_no_nan(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", hours(100), "date,a,b", "{time},{i},0.1")
    series = load_csv(path, "date", None, SHARES)
    windows = Windows(series, "train", seq_len=8, label_len=4, pred_len=4, device=CPU)
    assert windows.scale[1] == 1 and torch.isfinite(windows.series).all() and windows.series[:, 1].abs().max() < 1e-6
    (*_, last) = evaluate(experiment("data.dataset=x.csv", "training.batch_size=16"), seed=0, data_dir=tmp_path)
    assert all(np.isfinite(last[name]) for name in ("train_loss", "mse", "mae", "mae_units"))


class Persistence(torch.nn.Module):
    """Repeats the last value that it sees."""

    def forward(self, past: torch.Tensor, past_mark: torch.Tensor, known: torch.Tensor, mark: torch.Tensor) -> Any:
        assert past_mark.shape[:2] == past.shape[:2] and mark.shape[:2] == known.shape[:2] == (len(past), 8)
        return past[:, -1:].expand(-1, 4, -1)


def test_forecasts_are_in_the_series_own_units(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", hours(100), "date,a,b", "{time},{i}000,-{i}e-3")
    task: Any = build_task(experiment(f"data.dataset={path}"), seed=0, device=CPU, data_dir=None, split="test")
    model = Persistence()
    first = task.series.borders("test", 0)[0]
    assert first == 80
    forecasts = task.forecasts(model, "test")
    assert forecasts.shape == (17, 4, 2)
    np.testing.assert_allclose(forecasts[2, :, 0], [1000 * (first + 1)] * 4, rtol=1e-5)
    np.testing.assert_allclose(forecasts[:, 0], task.series.values[first - 1 : first + 16], rtol=1e-5)
    times, values = task.predict(model)
    assert times.tolist() == [task.series.times[-1].item().replace(day=3, hour=4 + step) for step in range(4)]
    np.testing.assert_allclose(values, [[99_000, -0.099]] * 4, rtol=1e-5)
    metrics = task.evaluate(model, "test")
    assert metrics["mae_units"] == pytest.approx((2500 + 2.5e-3) / 2, rel=1e-4)
    scaled = np.abs([1000, 1e-3] / task.windows("test").scale) * 2.5
    assert metrics["mae"] == pytest.approx(scaled.mean(), rel=1e-4)


def test_a_network_predicts_beyond_the_end_as_in_a_window(tmp_path: Path) -> None:
    """Rows 97 to 100 are foreseen alike by the window that ends a series, and by a series that ends before them."""
    torch.manual_seed(0)
    values = np.sin(np.arange(100) / 5)
    rows = [f"{time},{value}" for time, value in zip(hours(100).astype("datetime64[s]"), values, strict=True)]
    tasks: list[Any] = []
    for name, last, test in (("whole", 100, 0.2), ("begun", 96, 0.17)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["date,a", *rows[:last]]))
        changes = f"data.dataset={name}.csv", "data.validation_share=0.2", f"data.test_share={test}"
        tasks.append(build_task(experiment(*changes), seed=0, device=CPU, data_dir=tmp_path))
    whole, begun = tasks
    model = whole.build_model()
    scaling = whole.windows("train")
    begun.windows("train").mean, begun.windows("train").scale = scaling.mean, scaling.scale
    times, foreseen = begun.predict(model)
    np.testing.assert_array_equal(times, whole.series.times[96:])
    np.testing.assert_allclose(foreseen, whole.forecasts(model, "test")[-1], atol=1e-5)
