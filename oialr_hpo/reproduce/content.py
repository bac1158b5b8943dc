"""What a table of a comparison says, whatever it is written as."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from oialr_hpo.experiment import flatten
from oialr_hpo.experiment.metrics import METRICS, shown_metrics
from oialr_hpo.methods import DEFAULT
from oialr_hpo.reproduce.comparison import DENSE, METHODS, Comparison, Measured, Row, is_there
from oialr_hpo.reproduce.pairs import paired
from oialr_hpo.reproduce.published import published
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import State, Trial

DIFFERENCE = "top1_difference"
"""Not measured, but the difference of two rows: declared among the metrics."""


def content(name: str, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The table of this name, with what was measured beside what was published."""
    table = published(name)
    columns = (table.columns or _columns(comparisons)) | _costs(comparisons)
    papers = [table.experiments.get(each.experiment_name, {}) for each in comparisons]
    seeds = {"paper_seeds": table.seeds} if table.seeds else {}
    return {
        "table": name,
        "source": table.source,
        "notes": table.notes,
        "columns": columns,
        "experiments": [_experiment(*each, columns) for each in zip(comparisons, papers, strict=True)],
    } | seeds


def _columns(comparisons: Iterable[Comparison]) -> dict[str, str]:
    """What the trials measured, by metric."""
    for comparison in comparisons:
        for measured in comparison.rows.values():
            for trial in _complete(measured.tested):
                headed = {each.name: each.heading for each in METRICS.values() if each.heading and not each.at_end}
                own = {name: name for name in shown_metrics(trial.metrics, "trials") if name not in headed}
                return own | {"minutes": "minutes"} | headed
    return {}


def _costs(comparisons: Iterable[Comparison]) -> dict[str, str]:
    """What only ended trainings know, by metric, where some trial says it."""
    rows = [row for comparison in comparisons for row in comparison.rows.values()]
    told = {name for row in rows for trial in _complete(row.tested) for name in trial.metrics}
    return {each.name: each.heading for each in METRICS.values() if each.heading and each.at_end and each.name in told}


def _complete(run: RunDirectory) -> list[Trial]:
    return [trial for trial in run.trials() if trial.state is State.COMPLETE]


def _experiment(
    comparison: Comparison, paper: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> dict[str, Any]:
    known = comparison.named(paper)
    rows = [_row(row, comparison.rows.get(row.name), known.get(row, {})) for row in _shown(comparison, known)]
    dense = rows[0]["metrics"]
    for row in rows:
        if DIFFERENCE in columns and (difference := _difference(row, rows[0])):
            row["metrics"][DIFFERENCE] = difference
        for metric, cell in row["metrics"].items():
            base, printed = dense.get(metric), row["paper"].get(metric)
            cell["differs_from_paper"] = printed is not None and _differ(cell, printed)
            cell["differs_from_dense"] = row["method"] != DENSE and base is not None and _differ(cell, base)
    before, here = flatten(comparison.original.dump()), flatten(comparison.experiment.dump())
    changed = {key: {"here": here.get(key), "full": before.get(key)} for key in here if here[key] != before.get(key)}
    method = comparison.method
    other = {"method": method} if method not in (DEFAULT, DENSE) else {}
    pairs = paired(rows, comparison.experiment.score.metrics[0])
    return {"name": comparison.name, "changed": changed, "rows": rows, "pairs": pairs} | other


def _shown(comparison: Comparison, known: Iterable[Row]) -> list[Row]:
    """The rows that every table has, both of each other method that is compared or published and there, and what is
    only published."""
    shown = [Row.of(name) for name in METHODS]
    for row in (*known, *(Row(method, tuned=False) for method in comparison.others)):
        there = row.method is None or is_there(row.method)
        shown += [Row(row.method, tuned) for tuned in (False, True)] if there else [row]
    return list(dict.fromkeys(shown))


def _difference(row: Mapping[str, Any], dense: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the top-1 accuracy to the dense network's, in points, over the seeds that both have."""
    here, there = (
        dict(zip(each["seeds"], each["metrics"].get("top1", {}).get("values", ()), strict=False))
        for each in (row, dense)
    )
    differences = [here[seed] - there[seed] for seed in here if seed in there]
    return _statistics(differences) if differences else None


def _row(of: Row, measured: Measured | None, paper: Mapping[str, Any]) -> dict[str, Any]:
    known = {metric: _pair(value) for metric, value in paper.items()}
    state = "not computed" if of.method is None or is_there(of.method) else "not built"
    row: dict[str, Any] = {"method": of.name, "state": state, "seeds": [], "metrics": {}, "paper": known}
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
        names = shown_metrics(trials[0].metrics, "trials") + shown_metrics(trials[0].metrics, "compared")
        row["metrics"] = {name: _statistics([trial.metrics.get(name, math.nan) for trial in trials]) for name in names}
        row["metrics"]["minutes"] = _statistics([trial.seconds / 60 for trial in trials])
    if measured.searched:
        searched, usage = measured.searched.trials(), measured.searched.usage()
        winner = standings(searched)[0]
        row["search"] = {
            "trials": sum(trial.finished for trial in searched),
            "settings": len(measured.searched.experiment.space),
            "training_seconds": usage.training,
            "elapsed_seconds": usage.elapsed,
            "best": winner.trial.settings,
        }
        if measured.elsewhere:
            row["search"]["elsewhere"] = str(measured.searched.path)
            return row
        again = _complete(measured.again) if measured.again else []
        row["selection"] = {
            "direction": measured.searched.experiment.score.goals[0].direction,
            "won": winner.scores[0],
            "seed": winner.trial.seed,
            "again": _statistics([trial.scores[0] for trial in again]) if again else None,
            "again_seeds": [trial.settings["seed"] for trial in again],
            "test": _statistics([trial.scores[0] for trial in trials]) if trials else None,
        }
        if winner.fresh:
            row["selection"]["fresh_seeds"] = [trial.seed for trial in winner.fresh]
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
