"""Settings of forecasting, free of torch so that a search can check a file without it."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from oialr_hpo.mistake import hint
from oialr_hpo.section import Section
from oialr_hpo.tasks.forecasting.csv_series import find_file, is_file, load_csv
from oialr_hpo.tasks.forecasting.datasets import DATASETS, find_series, load_series, shape_of_series
from oialr_hpo.tasks.forecasting.series import Part, Series
from oialr_hpo.tasks.task import DataError, TaskSettings

if TYPE_CHECKING:
    from oialr_hpo.tasks.forecasting.autoformer import Autoformer

OF_OWN_FILES = ("date_column", "columns", "validation_share", "test_share")


class SeriesData(Section):
    """The series and its windows, in steps."""

    dataset: str = Field(description="ETTh1, ETTh2, ETTm1, ETTm2, ecg, or a .csv file in the data directory")
    date_column: str = Field("date", description="of one's own file")
    columns: list[str] | None = Field(None, description="of one's own file, those to forecast; null: all")
    validation_share: float = Field(0.1, gt=0, lt=1, description="of the rows of one's own file, before those of test")
    test_share: float = Field(0.2, gt=0, lt=1, description="of the rows of one's own file, the last ones")
    seq_len: int = Field(96, ge=2, description="steps of the past the encoder sees")
    label_len: int = Field(48, ge=0, description="steps of the past the decoder starts from")
    pred_len: int = Field(96, ge=1, description="steps to forecast")
    train_windows: int | None = Field(None, ge=1, description="so many, evenly spread; all where left out")
    validation_windows: int | None = Field(None, ge=1, description="so many, evenly spread; all where left out")

    @field_validator("dataset")
    @classmethod
    def _is_known(cls, dataset: str) -> str:
        if dataset in DATASETS or is_file(dataset):
            if ".." in Path(dataset).parts:
                raise ValueError("give a file below the data directory, or its whole path")
            return dataset
        raise ValueError(f"choose one of {', '.join(DATASETS)}, or a .csv file;{hint(dataset, DATASETS)}".rstrip(";"))

    @model_validator(mode="after")
    def _own_settings_are_of_own_files(self) -> "SeriesData":
        for name in OF_OWN_FILES if self.dataset in DATASETS else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for files of one's own; {self.dataset} has its protocol")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave no rows to train on")
        return self

    @model_validator(mode="after")
    def _label_is_part_of_the_past(self) -> "SeriesData":
        if self.label_len > self.seq_len:
            raise ValueError(f"label_len {self.label_len} exceeds seq_len {self.seq_len}")
        return self


class AutoformerModel(Section):
    """Autoformer's size; the defaults are the published ones."""

    d_model: int = Field(512, ge=1, description="width")
    n_heads: int = Field(8, ge=1, description="heads of an auto-correlation")
    e_layers: int = Field(2, ge=1, description="layers of the encoder")
    d_layers: int = Field(1, ge=1, description="layers of the decoder")
    d_ff: int = Field(2048, ge=1, description="width of the feed-forward parts")
    moving_avg: int = Field(25, ge=1, description="window of the series decomposition, in steps")
    factor: float = Field(1.0, gt=0, description="auto-correlation keeps int(factor * ln(length)) delays")
    dropout: float = Field(0.05, ge=0, lt=1, description="probability")
    activation: Literal["gelu", "relu"] = Field("gelu", description="of the feed-forward parts")

    @model_validator(mode="after")
    def _heads_fit(self) -> "AutoformerModel":
        if self.n_heads > self.d_model:
            raise ValueError(f"n_heads {self.n_heads} exceeds d_model {self.d_model}")
        return self


class ForecastingSettings(TaskSettings):
    """The sections `data` and `model` of `forecasting`: time series, and Autoformer's sizes."""

    smaller_is_better = frozenset({"loss", "mse", "mae", "mae_units"})

    data: SeriesData
    model: AutoformerModel

    def series(self, data_dir: Path | None) -> Series:
        """The series, as its file has it.

        Raises:
            DataError: there is none, or it is damaged.
        """
        data = self.data
        if data.dataset in DATASETS:
            return load_series(data.dataset, data_dir)
        path, shares = find_file(data.dataset, data_dir), (data.validation_share, data.test_share)
        return load_csv(path, data.date_column, data.columns, shares)

    def find_data(self, data_dir: Path | None) -> dict[str, Path]:
        """The file of the series, downloaded where there is none; empty for one that ships with a package, or that is
        named by its whole path.

        Raises:
            DataError: there is none.
        """
        name = self.data.dataset
        if name in DATASETS:
            return find_series(name, data_dir)
        path = find_file(name, data_dir)
        return {} if Path(name).expanduser().is_absolute() else {name: path}

    def prepare_data(self, data_dir: Path | None) -> None:
        """Find the series, or download it, and look at all of it.

        Raises:
            DataError: there is none, it is damaged, not the official one, or too short for the windows.
        """
        series = self.series(data_dir)
        parts: tuple[Part, ...] = ("train", "validation", "test")
        try:
            for part in parts:
                series.check_windows(part, self.data.seq_len, self.data.pred_len)
        except ValueError as error:
            raise DataError(f"{self.data.dataset}: {error}") from None

    def build_model(self) -> "Autoformer | None":
        """Autoformer for a known series; how many channels one's own file has, it alone tells."""
        if self.data.dataset not in DATASETS:
            return None
        return self.network(*shape_of_series(self.data.dataset))

    def network(self, channels: int, freq: str) -> "Autoformer":
        """Autoformer for so many channels of this sampling frequency."""
        from oialr_hpo.tasks.forecasting.autoformer import Autoformer

        return Autoformer(
            seq_len=self.data.seq_len,
            label_len=self.data.label_len,
            pred_len=self.data.pred_len,
            enc_in=channels,
            dec_in=channels,
            c_out=channels,
            freq=freq,
            **self.model.model_dump(),
        )
