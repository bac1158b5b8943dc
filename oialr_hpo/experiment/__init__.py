"""An experiment file: YAML <-> typed, checked settings, with one clear line per mistake."""

from oialr_hpo.experiment.data import find_data, prepare_data
from oialr_hpo.experiment.experiment import OF_THE_SEARCH, Experiment, ExperimentError, flatten
from oialr_hpo.experiment.objective import OBJECTIVE, load_objective
from oialr_hpo.experiment.reading import changed, completed, find, known, load, parse_yaml, read, recorded, shipped
from oialr_hpo.experiment.settings import (
    LOGGERS,
    MOST_THREADS,
    SAMPLERS,
    EarlyStopping,
    Islands,
    Sampler,
    Training,
    seconds,
)
from oialr_hpo.optimization import Schedule

__all__ = [
    "LOGGERS",
    "MOST_THREADS",
    "OBJECTIVE",
    "OF_THE_SEARCH",
    "SAMPLERS",
    "EarlyStopping",
    "Experiment",
    "ExperimentError",
    "Islands",
    "Sampler",
    "Schedule",
    "Training",
    "changed",
    "completed",
    "find",
    "find_data",
    "flatten",
    "known",
    "load",
    "load_objective",
    "parse_yaml",
    "prepare_data",
    "read",
    "recorded",
    "seconds",
    "shipped",
]
