"""Tables that compare what was measured with what was published: Markdown, CSV and JSON of one content."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from oialr_hpo.experiment import Experiment, flatten
from oialr_hpo.experiment.metrics import METRICS, decimals, shown_metrics
from oialr_hpo.files import write_whole
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError, finite
from oialr_hpo.runs.printing import clock
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import State, Trial

METHODS = ("dense", "untuned", "tuned", "dense, tuned")
LABELS = {"dense": "dense", "untuned": "OIALR, untuned", "tuned": "OIALR, tuned", "dense, tuned": "dense, tuned"}
MARKS = (
    "Mean ± standard deviation over the seeds, on the test split. ≠ differs from the paper's number, † from the dense "
    "network here, by more than the standard deviations of the two together."
)


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        source: where it stands.
        columns: metric -> heading; empty: what the trials measured.
        notes: what a reader should know.
        experiments: name of the experiment -> method -> metric -> a number, or mean and standard deviation.
    """

    source: str
    columns: dict[str, str]
    notes: list[str]
    experiments: dict[str, dict[str, dict[str, Any]]]


def tables() -> dict[str, Any]:
    """The tables of the paper by their names."""
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return content


def published(name: str) -> Published:
    """A table by its name; for any other name, that experiment without published numbers."""
    if name in (known := tables()):
        return Published(**known[name])
    return Published("none", {}, [], {name: {}})


@dataclass(frozen=True)
class Measured:
    """What was run for a row: the trainings on the test split and, of a tuned one, its search and the trainings again
    on the validation split."""

    tested: RunDirectory
    searched: RunDirectory | None = None
    again: RunDirectory | None = None


@dataclass
class Comparison:
    """The rows of one experiment, as far as they were measured.

    Attributes:
        experiment: as run here.
        original: as its file says, at full scale.
        rows: by method.
    """

    experiment_name: str
    experiment: Experiment
    original: Experiment
    rows: dict[str, Measured] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.experiment_name).stem


def write(name: str, comparisons: Sequence[Comparison], out: Path) -> str:
    """Write `table.md`, `table.csv` and `table.json`; returns the first.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    table = published(name)
    content = {
        "table": name,
        "source": table.source,
        "notes": table.notes,
        "columns": table.columns or _columns(comparisons),
        "experiments": [_experiment(each, table.experiments.get(each.experiment_name, {})) for each in comparisons],
    }
    text = markdown(content)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "table.md", text)
        write_whole(out / "table.csv", _csv(content))
        write_whole(out / "table.json", json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    return text


def _columns(comparisons: Iterable[Comparison]) -> dict[str, str]:
    """What the trials measured, by metric."""
    for comparison in comparisons:
        for measured in comparison.rows.values():
            for trial in _complete(measured.tested):
                headed = {metric.name: metric.heading for metric in METRICS.values() if metric.heading}
                own = {name: name for name in shown_metrics(trial.metrics, "trials") if name not in headed}
                return own | {"minutes": "minutes"} | headed
    return {}


def _complete(run: RunDirectory) -> list[Trial]:
    return [trial for trial in run.trials() if trial.state is State.COMPLETE]


def _experiment(comparison: Comparison, paper: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [_row(method, comparison.rows.get(method), paper.get(method, {})) for method in METHODS]
    dense = rows[0]["metrics"]
    for row in rows:
        for metric, cell in row["metrics"].items():
            base = dense.get(metric)
            cell["differs_from_dense"] = row["method"] != "dense" and base is not None and _differ(cell, base)
    before, here = flatten(comparison.original.dump()), flatten(comparison.experiment.dump())
    changed = {key: {"here": here.get(key), "full": before.get(key)} for key in here if here[key] != before.get(key)}
    return {"name": comparison.name, "changed": changed, "rows": rows}


def _row(method: str, measured: Measured | None, paper: Mapping[str, Any]) -> dict[str, Any]:
    known = {metric: _pair(value) for metric, value in paper.items()}
    row: dict[str, Any] = {"method": method, "state": "not computed", "seeds": [], "metrics": {}, "paper": known}
    row |= {"search": None, "selection": None, "trained": None}
    if measured is None:
        return row
    trials = _complete(measured.tested)
    ended = [trial for trial in measured.tested.trials() if trial.finished]
    reasons = [trial.reason or trial.state.value for trial in ended if trial.state is not State.COMPLETE]
    row["state"] = "measured" if trials else "failed"
    row["failures"] = reasons
    row["seeds"] = [trial.settings["seed"] for trial in trials]
    if trials:
        devices = sorted({str(trial.metrics.get("device", "unknown")) for trial in trials})
        row["trained"] = [" and ".join(devices), min(measured.tested.environment["workers"], len(ended))]
        names = shown_metrics(trials[0].metrics, "trials")
        row["metrics"] = {name: _statistics([trial.metrics.get(name, math.nan) for trial in trials]) for name in names}
        row["metrics"]["minutes"] = _statistics([trial.seconds / 60 for trial in trials])
    for metric, cell in row["metrics"].items():
        cell["differs_from_paper"] = metric in known and _differ(cell, known[metric])
    if measured.searched:
        searched, usage = measured.searched.trials(), measured.searched.usage()
        (winner,) = best(searched)
        row["search"] = {
            "trials": sum(trial.finished for trial in searched),
            "settings": len(measured.searched.experiment.search),
            "training_seconds": usage.training,
            "elapsed_seconds": usage.elapsed,
            "best": winner.settings,
        }
        again = _complete(measured.again) if measured.again else []
        row["selection"] = {
            "direction": measured.searched.experiment.score.goals[0].direction,
            "won": winner.score,
            "seed": winner.seed,
            "again": _statistics([trial.scores[0] for trial in again]) if again else None,
            "again_seeds": [trial.settings["seed"] for trial in again],
            "test": _statistics([trial.scores[0] for trial in trials]) if trials else None,
        }
    return row


def _pair(value: Any) -> dict[str, float | None]:
    mean, std = value if isinstance(value, list) else (value, None)
    return {"mean": mean, "std": std}


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None, "values": list(values)}


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two means lie further apart than their standard deviations together; with one seed nobody knows."""
    if one["std"] is None:
        return False
    return abs(one["mean"] - other["mean"]) > one["std"] + (other["std"] or 0.0)


def markdown(content: Mapping[str, Any]) -> str:
    """The content as a page."""
    lines = [f"# {content['table']}", "", f"Published numbers: {content['source']}.", ""]
    for experiment in content["experiments"]:
        lines += [f"## {experiment['name']}", "", _scale(experiment), ""]
        lines += [_table(experiment, content["columns"]), "", MARKS, ""]
        selection = [row for row in experiment["rows"] if row["selection"]]
        if selection:
            lines += ["### What selection promised", "", _selection(selection), ""]
    lines += [f"- {note}" for note in content["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _scale(experiment: Mapping[str, Any]) -> str:
    changed = experiment["changed"]
    trained = [row["trained"] for row in experiment["rows"] if row["trained"]]
    on = " ".join(dict.fromkeys(f"Trained on {where}, {count} at a time." for where, count in trained))
    if not changed:
        return f"At full scale, as the experiment file says. {on}".rstrip()
    listed = ", ".join(f"`{key}` {values['here']} instead of {values['full']}" for key, values in changed.items())
    return f"**Not at full scale: {listed}.** The numbers cannot be compared with the paper's. {on}".rstrip()


def _table(experiment: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    header = ["", *columns.values(), "seeds", "cost of the search"]
    rows = [header, ["---"] * len(header)]
    for row in experiment["rows"]:
        rows.append([LABELS[row["method"]], *(_cell(row, metric) for metric in columns), _seeds(row), _cost(row)])
        if row["paper"]:
            printed = [_number(metric, row["paper"].get(metric)) for metric in columns]
            rows.append(["*paper*", *(f"*{text}*" if text else "" for text in printed), "*3*", ""])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(row: Mapping[str, Any], metric: str) -> str:
    if row["state"] != "measured":
        return row["state"]
    cell = row["metrics"].get(metric)
    marks = [mark for mark, key in (("≠", "differs_from_paper"), ("†", "differs_from_dense")) if cell and cell[key]]
    return " ".join([_number(metric, cell), *marks])


def _number(metric: str, cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    digits = decimals(metric)
    if digits is None:
        digits = 4 if abs(cell["mean"]) < 1 else 2
    return f"{cell['mean']:,.{digits}f}" + ("" if cell["std"] is None else f" ± {cell['std']:,.{digits}f}")


def _seeds(row: Mapping[str, Any]) -> str:
    if row["state"] == "not computed":
        return ""
    failed = row["failures"]
    return str(len(row["seeds"])) + (f", {len(failed)} failed: {failed[0]}" if failed else "")


def _cost(row: Mapping[str, Any]) -> str:
    if row["state"] == "not computed":
        return ""
    search = row["search"]
    if search is None:
        return "none"
    return (
        f"{search['trials']} trials of {search['settings']} settings, {clock(search['training_seconds'])} of training"
    )


def _selection(rows: Sequence[Mapping[str, Any]]) -> str:
    better = "lower" if rows[0]["selection"]["direction"] == "minimize" else "higher"
    header = [
        f"score ({better} is better)",
        "that won the search",
        "same settings, fresh seeds",
        "same, on the test split",
    ]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        selection = row["selection"]
        again = _number("error", selection["again"]) or "not computed"
        won = f"{selection['won']:.4f} (seed {selection['seed']}, best of {row['search']['trials']})"
        lines.append([LABELS[row["method"]], won, again, _number("error", selection["test"]) or "failed"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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
