"""A table of a comparison as Markdown, CSV and JSON of one content."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oialr_hpo.files import write_whole
from oialr_hpo.reproduce.comparison import Comparison
from oialr_hpo.reproduce.content import content
from oialr_hpo.reproduce.markdown import markdown
from oialr_hpo.runs.files import RunDirectoryError, finite


def write(name: str, comparisons: Sequence[Comparison], out: Path) -> str:
    """Write `table.md`, `table.csv` and `table.json`; returns the first.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    table = content(name, comparisons)
    text = markdown(table)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "table.md", text)
        write_whole(out / "table.csv", _csv(table))
        write_whole(out / "table.json", json.dumps(finite(table), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    return text


def _csv(content: Mapping[str, Any]) -> str:
    """A line per experiment, method and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["experiment", "method", "state", "metric", "mean", "std", "seeds", "paper_mean", "paper_std"]
        + ["differs_from_paper", "differs_from_dense", "search_trials", "search_training_seconds"]
    )
    for experiment in content["experiments"]:
        for row in experiment["rows"]:
            search = row["search"] or {}
            for metric in content["columns"]:
                cell, paper = row["metrics"].get(metric, {}), row["paper"].get(metric, {})
                known = [cell.get("mean"), cell.get("std"), len(row["seeds"]), paper.get("mean"), paper.get("std")]
                differs = [cell.get("differs_from_paper"), cell.get("differs_from_dense")]
                cost = [search.get("trials"), search.get("training_seconds")]
                writer.writerow([experiment["name"], row["method"], row["state"], metric, *known, *differs, *cost])
    return text.getvalue()
