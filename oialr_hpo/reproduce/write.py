"""A table of a comparison as Markdown, CSV, JSON and a picture of one content."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oialr_hpo.files import whole, write_whole
from oialr_hpo.reproduce.comparison import Comparison
from oialr_hpo.reproduce.content import content
from oialr_hpo.reproduce.markdown import markdown
from oialr_hpo.runs.files import RunDirectoryError, finite

PICTURE = "pareto.png"
SHOWN = "Mean and standard deviation over the seeds. Blue: beaten by none in both. Square: dense. Empty: untuned."


def write(name: str, comparisons: Sequence[Comparison], out: Path) -> str:
    """Write `table.md`, `table.csv` and `table.json`, and `pareto.png` where several rows are measured.

    Returns:
        the first.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    from oialr_hpo.reproduce.picture import picture  # here: pictures take long to import

    table = content(name, comparisons)
    goals = {each.name: each.experiment.score.goals[0] for each in comparisons}
    text, drawn = markdown(table), picture(table, goals)
    if drawn:
        text += f"\n![Pareto front]({PICTURE})\n\n{SHOWN}\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if drawn:
            with whole(out / PICTURE) as partial:
                partial.write_bytes(drawn)
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
