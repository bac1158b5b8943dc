"""Settings of forecasting, free of torch so that a search can check a file without it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from oialr_hpo.tasks import TaskSettings
from oialr_hpo.tasks.ett import find_series, load_series


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SeriesData(Settings):
    """The series and its windows, in steps."""

    dataset: Literal["ETTh1", "ETTh2", "ETTm1", "ETTm2", "ecg"]
    seq_len: int = Field(96, ge=2, description="steps of the past the encoder sees")
    label_len: int = Field(48, ge=0, description="steps of the past the decoder starts from")
    pred_len: int = Field(96, ge=1, description="steps to forecast")
    train_windows: int | None = Field(None, ge=1, description="so many, evenly spread; all where left out")
    validation_windows: int | None = Field(None, ge=1, description="so many, evenly spread; all where left out")

    @model_validator(mode="after")
    def _label_is_part_of_the_past(self) -> "SeriesData":
        if self.label_len > self.seq_len:
            raise ValueError(f"label_len {self.label_len} exceeds seq_len {self.seq_len}")
        return self


class AutoformerModel(Settings):
    """Autoformer's size; the defaults are the published ones."""

    d_model: int = Field(512, ge=1)
    n_heads: int = Field(8, ge=1)
    e_layers: int = Field(2, ge=1)
    d_layers: int = Field(1, ge=1)
    d_ff: int = Field(2048, ge=1)
    moving_avg: int = Field(25, ge=1, description="window of the series decomposition, in steps")
    factor: float = Field(1.0, gt=0, description="auto-correlation keeps int(factor * ln(length)) delays")
    dropout: float = Field(0.05, ge=0, lt=1)
    activation: Literal["gelu", "relu"] = "gelu"

    @model_validator(mode="after")
    def _heads_fit(self) -> "AutoformerModel":
        if self.n_heads > self.d_model:
            raise ValueError(f"n_heads {self.n_heads} exceeds d_model {self.d_model}")
        return self


class ForecastingSettings(TaskSettings):
    smaller_is_better = frozenset({"loss", "mse", "mae"})

    data: SeriesData
    model: AutoformerModel

    def find_data(self, data_dir: Path | None) -> dict[str, Path]:
        """The file of the series, downloaded where there is none; empty for one that ships with a package.

        Raises:
            DataError: there is none.
        """
        return find_series(self.data.dataset, data_dir)

    def prepare_data(self, data_dir: Path | None) -> None:
        """Find the series, or download it.

        Raises:
            DataError: there is none, or not the official one.
        """
        load_series(self.data.dataset, data_dir)
