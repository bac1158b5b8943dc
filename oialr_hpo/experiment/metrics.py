"""The metrics of a training's records: each is declared here, once, and whoever reads, shows or writes them follows.

What is not declared is a metric of someone's task: a number that every table of trials shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from oialr_hpo.methods import FULL, OF_LAYERS

Place = Literal["trials", "compared", "seeds", "epoch", "export"]


@dataclass(frozen=True)
class Metric:
    """Something that a record says.

    Attributes:
        name: in records, files and tables.
        kind: a table holds numbers by name, such as one of every layer.
        smaller_is_better: a search that aims at large ones is refused.
        shown: where people see it: `trials` (tables of trials: status, report, comparisons), `compared` (in
            comparisons alone), `seeds` (the table at the end of `train`), `epoch` (a line of `train`), `export` (the
            heading of an exported file).
        heading: of its column in a comparison, where that is not the name.
        decimals: of its means in a comparison; None: by their size.
        at_end: only a training's last record has it.
        progress: says how a training gets on, not what comes out of it: nobody is told of it as something to score.
    """

    name: str
    kind: Literal["number", "text", "table"] = "number"
    smaller_is_better: bool = False
    shown: tuple[Place, ...] = ()
    heading: str | None = None
    decimals: int | None = None
    at_end: bool = False
    progress: bool = False


OF_TASKS = (
    Metric("loss", shown=("trials", "seeds", "export"), decimals=4),
    Metric("error", shown=("trials", "seeds"), decimals=4),
    Metric("top1", shown=("trials", "seeds", "export")),
    Metric("train_top1", progress=True),
    Metric("top5", shown=("trials", "seeds", "export")),
    Metric("mse", shown=("trials", "seeds", "export"), decimals=4),
    Metric("mae", shown=("trials", "seeds", "export"), decimals=4),
)
"""Of the tasks that come with this package; whether small or large ones are good, each task says itself."""

NOTES = (
    Metric("epoch", progress=True),
    Metric("step", progress=True),
    Metric("lr", shown=("epoch",), progress=True),
    Metric("train_loss", smaller_is_better=True, shown=("epoch", "seeds")),
    Metric("total_percent", smaller_is_better=True, shown=("trials", "seeds", "export"), heading="total %"),
    Metric("trainable_percent", smaller_is_better=True, shown=("trials", "seeds", "export"), heading="trainable %"),
    Metric("parameters", smaller_is_better=True, shown=("trials", "seeds"), heading="parameters", decimals=0),
    Metric(
        "trainable_parameters",
        smaller_is_better=True,
        shown=("trials", "seeds"),
        heading="trainable parameters",
        decimals=0,
    ),
    Metric("inference_flops", smaller_is_better=True, shown=("compared", "seeds"), decimals=0, at_end=True),
    Metric("flops_percent", smaller_is_better=True, shown=("compared", "seeds"), heading="FLOPs %", at_end=True),
    Metric(
        "step_milliseconds",
        smaller_is_better=True,
        shown=("compared", "seeds"),
        heading="ms a step",
        at_end=True,
        progress=True,
    ),
    Metric("device", kind="text"),
    Metric("data_wait", smaller_is_better=True, progress=True),
    Metric("track_share", smaller_is_better=True, shown=("epoch", "trials", "seeds")),
    Metric("seconds", smaller_is_better=True, shown=("seeds",), progress=True),
    Metric("setup_seconds", smaller_is_better=True, progress=True),
    *(Metric(name, kind="table") for name in (*OF_LAYERS, *FULL)),
    Metric("stability", kind="table"),
    Metric("similarity", kind="table"),
    Metric("validation", kind="table"),
)
"""What the training loop says itself, and an objective may."""

MEANING = (
    "seconds: of training and evaluating; setup_seconds: before that, for imports, data and network. parameters: with "
    "frozen ones; total_percent and trainable_percent: of the parameters of the dense network that the file describes. "
    "inference_flops: of one sample, as the trained network computes them (zeros of a mask too), flops_percent: of the "
    "dense network's; step_milliseconds: an optimizer step without waiting for data; all three at a training's end."
)

OF_COMPARISONS = (Metric("top1_difference", decimals=2),)
"""Of a row of a comparison: top-1 accuracy minus that of the dense network, in points."""

METRICS = {metric.name: metric for metric in (*OF_TASKS, *NOTES, *OF_COMPARISONS)}
"""By name."""


def decimals(name: str) -> int | None:
    """Of a metric's means in a comparison; None: by their size."""
    return METRICS[name].decimals if name in METRICS else None


def shown_metrics(record: Mapping[str, Any], place: Place) -> list[str]:
    """The names of the numbers of a record that are shown in a place, in the record's order."""
    return [name for name, value in record.items() if isinstance(value, (int, float)) and place in _places(name)]


def _places(name: str) -> tuple[Place, ...]:
    return METRICS[name].shown if name in METRICS else ("trials", "seeds")
