"""The result tables of the paper, as `published.yaml` has them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        source: where it stands.
        columns: metric -> heading; empty: what the trials measured.
        notes: what a reader should know.
        experiments: name of the experiment -> row -> metric -> a number, or mean and standard deviation.
        seeds: over which the paper's means are; None: it does not say.
    """

    source: str
    columns: dict[str, str]
    notes: list[str]
    experiments: dict[str, dict[str, dict[str, Any]]]
    seeds: int | None = None


def tables() -> dict[str, Any]:
    """The tables of the paper by their names."""
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return content


def published(name: str) -> Published:
    """A table by its name; for any other name, that experiment without published numbers."""
    if name in (known := tables()):
        return Published(**known[name])
    return Published("none", {}, [], {name: {}})
