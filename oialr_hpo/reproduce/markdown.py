"""A table of a comparison as a page of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from oialr_hpo.experiment.metrics import decimals
from oialr_hpo.methods import DEFAULT
from oialr_hpo.reproduce.comparison import Row
from oialr_hpo.reproduce.pairs import CONFIDENCE
from oialr_hpo.runs.printing import clock

MARKS = (
    "Mean ± standard deviation over the seeds, on the test split. ≠ differs from the paper's number, † from the dense "
    "network here, by more than the standard deviations of the two together."
)


def markdown(content: Mapping[str, Any]) -> str:
    """The content as a page."""
    lines = [f"# {content['table']}", "", f"Published numbers: {content['source']}.", ""]
    for experiment in content["experiments"]:
        lines += [f"## {experiment['name']}", "", _scale(experiment), ""]
        lines += [_table(experiment, content["columns"], content.get("paper_seeds")), "", MARKS, ""]
        if experiment["pairs"]:
            lines += ["### Seed by seed", "", _pairs(experiment), ""]
        selection = [row for row in experiment["rows"] if row["selection"]]
        if selection:
            lines += ["### What selection promised", "", _selection(selection, experiment), ""]
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


def _table(experiment: Mapping[str, Any], columns: Mapping[str, str], paper_seeds: int | None) -> str:
    header = ["", *columns.values(), "seeds", "cost of the search"]
    rows = [header, ["---"] * len(header)]
    for row in experiment["rows"]:
        rows.append([label(row, experiment), *(_cell(row, metric) for metric in columns), _seeds(row), _cost(row)])
        if row["paper"]:
            printed = [number(metric, row["paper"].get(metric)) for metric in columns]
            rows.append(
                [
                    "*paper*",
                    *(f"*{text}*" if text else "" for text in printed),
                    f"*{paper_seeds}*" if paper_seeds else "",
                    "",
                ]
            )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def label(row: Mapping[str, Any], experiment: Mapping[str, Any]) -> str:
    """What a row is called."""
    return Row.of(row["method"]).label(experiment.get("method", DEFAULT))


def _cell(row: Mapping[str, Any], metric: str) -> str:
    if row["state"] != "measured":
        return row["state"]
    cell = row["metrics"].get(metric)
    marks = [mark for mark, key in (("≠", "differs_from_paper"), ("†", "differs_from_dense")) if cell and cell[key]]
    return " ".join([number(metric, cell), *marks])


def number(metric: str, cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    digits = decimals(metric)
    if digits is None:
        digits = 4 if abs(cell["mean"]) < 1 else 2
    return f"{cell['mean']:,.{digits}f}" + ("" if cell["std"] is None else f" ± {cell['std']:,.{digits}f}")


def _seeds(row: Mapping[str, Any]) -> str:
    if row["state"] in ("not computed", "not built"):
        return ""
    failed = row["failures"]
    return str(len(row["seeds"])) + (f", {len(failed)} failed: {failed[0]}" if failed else "")


def _cost(row: Mapping[str, Any]) -> str:
    if row["state"] in ("not computed", "not built"):
        return ""
    search = row["search"]
    if search is None:
        return "none"
    cost = (
        f"{search['trials']} trials of {search['settings']} settings, {clock(search['training_seconds'])} of training"
    )
    return f"none here; in {search['elsewhere']} {cost}" if "elsewhere" in search else cost


def _pairs(experiment: Mapping[str, Any]) -> str:
    rows = {row["method"]: row for row in experiment["rows"]}
    metric = experiment["pairs"][0]["metric"]
    lines = [["", f"difference of {metric}", f"{CONFIDENCE:.0%} interval", "seeds"], ["---"] * 4]
    for pair in experiment["pairs"]:
        names = [label(rows[pair[each]], experiment) for each in ("row", "other")]
        mean, low, high = (_signed(metric, value) for value in (pair["difference"], *pair["interval"]))
        lines.append([" against ".join(names), mean, f"{low} to {high}", str(len(pair["seeds"]))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _signed(metric: str, value: float) -> str:
    """A difference with as many digits as the metric has."""
    text = number(metric, {"mean": abs(value), "std": None})
    return f"{'-' if value < 0 else '+'}{text}"


def _selection(rows: Sequence[Mapping[str, Any]], experiment: Mapping[str, Any]) -> str:
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
        again = number("error", selection["again"]) or "not computed"
        fresh = len(selection.get("fresh_seeds", []))
        of = f"mean of {fresh} fresh seeds" if fresh > 1 else f"seed {selection['seed']}"
        won = f"{selection['won']:.4f} ({of}, best of {row['search']['trials']})"
        lines.append([label(row, experiment), won, again, number("error", selection["test"]) or "failed"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
