"""`task: forecasting`: time series, the ETT data or one's own, foreseen by Autoformer."""

from typing import TYPE_CHECKING, Any

from oialr_hpo.tasks.forecasting.settings import ForecastingSettings as Settings

if TYPE_CHECKING:
    from oialr_hpo.tasks.forecasting.task import Forecasting

__all__ = ["Forecasting", "Settings"]


def __getattr__(name: str) -> Any:
    if name in ("Task", "Forecasting"):  # here, since it imports torch
        from oialr_hpo.tasks.forecasting.task import Forecasting

        return Forecasting
    raise AttributeError(f"module {__name__} has no attribute {name}")
