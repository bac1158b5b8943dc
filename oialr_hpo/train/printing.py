"""What is printed of trainings: a line per epoch, a table over the seeds, whether a search's trial came out again."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from oialr_hpo.experiment.metrics import METRICS, shown_metrics
from oialr_hpo.runs.printing import Volume, figure, table, volume
from oialr_hpo.runs.trial import Trial
from oialr_hpo.tasks import Split

PRINTED = [metric.name for metric in METRICS.values() if "epoch" in metric.shown]


def lines(record: Mapping[str, Any], epochs: int) -> list[str]:
    """An epoch's record in words; what was measured on the test split has a line of its own."""
    if volume.get() is Volume.VERBOSE:
        return [f"epoch {record['epoch']}/{epochs}  {figures(_all_numbers(record))}"]
    numbers = {name: record[name] for name in shown_metrics(record, "trials")}
    progress = {name: record[name] for name in PRINTED if name in record}
    validated = record.get("validation")
    shown = progress | (numbers if validated is None else validated)
    total = f"/{epochs}" if record["epoch"] <= epochs else ""  # an own objective may go on
    found = [f"epoch {record['epoch']}{total}  {figures(shown)}"]
    if validated is None:
        return found
    tested = {name: value for name, value in numbers.items() if name not in PRINTED}
    return [*found, f"test split  {figures(tested)}"]


def _all_numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "epoch" and isinstance(value, (int, float))}


def figures(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {figure(value)}" for name, value in numbers.items())


def report(trials: Sequence[Trial], split: Split) -> str:
    """Mean and standard deviation over the seeds, of the scored epoch and of the best one."""
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        return "no seed reached a score"
    seeds = " ".join(str(trial.seed) for trial in scored)
    header = [f"{split} split, seeds {seeds}", "mean", "std", "best epoch's mean"]
    rows: list[list[Any]] = []
    for name in shown_metrics(scored[0].metrics, "seeds"):
        values = [trial.metrics.get(name, math.nan) for trial in scored]
        bests = [trial.best_epoch[name] for trial in scored if split == "validation" and name in trial.best_epoch]
        spread = stdev(values) if len(values) > 1 else None
        rows.append([name, fmean(values), spread, fmean(bests) if len(bests) == len(scored) else None])
    return table(header, rows)


def compare(trial: Trial, evidence: dict[str, Any]) -> str:
    """Whether the trial of the search came out again."""
    before, after = evidence["score"], trial.score
    if before == after:
        return f"the same score as trial {evidence.get('trial', 'unknown')} of the search: {after}"
    condition = "identical only on the same kind of CPU and versions"
    return f"score {after}, trial {evidence.get('trial', 'unknown')} of the search had {before}: {condition}"
