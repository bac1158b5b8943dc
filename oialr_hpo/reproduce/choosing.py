"""What is compared of an experiment: which rows, of which methods, with what budget."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import Experiment
from oialr_hpo.methods import METHODS as BUILT_IN
from oialr_hpo.methods import name_of
from oialr_hpo.mistake import hint
from oialr_hpo.reproduce.comparison import DENSE, METHODS, STATES, Comparison, Row
from oialr_hpo.reproduce.variants import load, shorten


def rows(text: str) -> list[Row]:
    """What a value of `--methods` means: one row, or both of a method.

    Raises:
        ValueError: there is no such row.
    """
    method, _, state = (part.strip() for part in text.partition(","))
    if method in STATES and not state:
        return [Row(None, method == "tuned")]
    known = BUILT_IN.names()
    if method not in known or state not in ("", *STATES):
        near = "" if method in known else hint(method, [*known, *STATES])
        raise ValueError(f"no row {text!r};{near} choose {', '.join([*STATES, *known])}, or such as 'dense, tuned'")
    if method == DENSE:
        return [Row(DENSE, state == "tuned")]
    return [Row(method, each == "tuned") for each in ([state] if state else STATES)]


def compare(
    name: str, published: Iterable[str], asked: Iterable[Row] | None, changes: Sequence[str], budget: float
) -> tuple[Comparison, list[str]]:
    """An experiment with all methods that are compared on it, and the names of the rows to measure.

    Every search has as many trials.

    Args:
        name: of the experiment.
        published: names of rows.
        asked: rows; None: those that every table has, and both of each published method that is there.
        changes: of its settings, `KEY=VALUE`.
        budget: share of its epochs and trials.

    Raises:
        ExperimentError: it cannot be compared.
    """
    own, original = load(name, changes), experiments.load(name)
    wanted = [row.where(name_of(own.method)) for row in asked or _all(published)]
    others = dict.fromkeys(row.method for row in wanted if row.method not in (None, DENSE))
    all_methods = {None: own} | {method: load(name, [*changes, f"method={method}"]) for method in others}
    short = {method: shorten(each, budget) for method, each in all_methods.items()}
    trials = max(each.trials for each in short.values())
    alike = {method: each.model_copy(update={"trials": trials}) for method, each in short.items()}
    comparison = Comparison(name, alike[None], original, others={method: alike[method] for method in others if method})
    return comparison, list(dict.fromkeys(row.name for row in wanted))


def _all(published: Iterable[str]) -> list[Row]:
    others = dict.fromkeys(
        method for method in (Row.of(name).method for name in published) if method not in (None, DENSE)
    )
    there = [method for method in others if method in BUILT_IN.names()]
    return [*map(Row.of, METHODS), *(Row(method, tuned) for method in there for tuned in (False, True))]


def new(comparison: Comparison, out: Path) -> list[Experiment]:
    """The experiment with those methods of which nothing lies in the comparison's directory yet."""
    directory = out / comparison.name
    experiments = [] if directory.exists() else [comparison.experiment]
    for method, each in comparison.others.items():
        folders = (f"search-{method}", f"{Row(method, tuned=False).folder}-test")
        if not any((directory / folder).exists() for folder in folders):
            experiments.append(each)
    return experiments
