"""Rows of a comparison beside each other, seed by seed."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from oialr_hpo.reproduce.comparison import DENSE, Row

CONFIDENCE = 0.95


def paired(rows: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """What each measured row differs by from the dense one, and each tuned one from what it is to be better than.

    Args:
        rows: of a table's content.

    Returns:
        for each pair with two seeds in common: `row`, `other` (names), `metric`, `seeds` (in common), the mean
        `difference` of row and other, and the `interval` in which it lies with a confidence of `CONFIDENCE`, by
        Student's t distribution of the paired differences.
    """
    by_name = {row["method"]: row for row in rows if metric in row["metrics"]}
    found = []
    for name, other in _pairs(by_name):
        here, there = (_by_seed(by_name[each], metric) for each in (name, other))
        seeds = [seed for seed in here if seed in there]
        if len(seeds) > 1:
            differences = [here[seed] - there[seed] for seed in seeds]
            interval = _interval(differences)
            pair = {"row": name, "other": other, "metric": metric, "seeds": seeds}
            found.append(pair | {"difference": fmean(differences), "interval": interval})
    return found


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    known, pairs = set(names), []
    for name in names:
        row = Row.of(name)
        others = [DENSE, f"{DENSE}, tuned", Row(row.method, tuned=False).name] if row.tuned else [DENSE]
        pairs += [(name, other) for other in dict.fromkeys(others) if other in known and other != name]
    return pairs


def _by_seed(row: Mapping[str, Any], metric: str) -> dict[int, float]:
    return dict(zip(row["seeds"], row["metrics"][metric]["values"], strict=False))


def _interval(differences: Sequence[float]) -> list[float]:
    from scipy.stats import t  # here: it takes long to import

    mean, error = fmean(differences), stdev(differences) / len(differences) ** 0.5
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return [mean - reach, mean + reach]
