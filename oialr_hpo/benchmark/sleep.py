"""Trials that sleep instead of training; without MPI, since it is imported where trials run."""

import math
import random
import time
from collections.abc import Iterator
from typing import Any

from oialr_hpo.experiment import Experiment

MEAN, SIGMA = 2.0, 0.5  # seconds; of the logarithm


def length(number: int) -> float:
    """Seconds that trial `number` takes: lognormal, its mean `MEAN`."""
    return random.Random(number).lognormvariate(math.log(MEAN) - SIGMA**2 / 2, SIGMA)


def sleep(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """The objective of the searches here: a trial that does nothing for as long as its number says."""
    time.sleep(length(seed - experiment.seed))
    yield {"error": float(str(experiment.value("oialr.cutoff"))), "trainable_percent": 10.0}
