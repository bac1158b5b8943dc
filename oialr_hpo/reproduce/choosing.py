"""What is compared of an experiment: which rows, of which methods, with what budget."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.methods import METHODS as BUILT_IN
from oialr_hpo.methods import load_method, name_of
from oialr_hpo.mistake import hint
from oialr_hpo.reproduce.comparison import DENSE, METHODS, STATES, Comparison, Found, Row, is_there
from oialr_hpo.reproduce.variants import RATES, load, scaled, shorten
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best


def rows(text: str) -> list[Row]:
    """What a value of `--methods` means: one row, or both of a method.

    Raises:
        ValueError: there is no such row.
    """
    method, _, state = (part.strip() for part in text.partition(","))
    if method in STATES and not state:
        return [Row(None, method == "tuned")]
    known = BUILT_IN.names()
    if not is_there(method) or state not in ("", *STATES):
        near = "" if is_there(method) else hint(method, [*known, *STATES])
        choices = ", ".join([*STATES, *known, "package.module:Class"])
        raise ValueError(f"no row {text!r};{near} choose {choices}, or such as 'dense, tuned'")
    try:
        load_method(method)
    except LookupError as error:
        raise ValueError(str(error)) from None
    if method == DENSE:
        return [Row(DENSE, state == "tuned")]
    return [Row(method, each == "tuned") for each in ([state] if state else STATES)]


def compare(
    name: str,
    published: Iterable[str],
    asked: Iterable[Row] | None,
    changes: Sequence[str],
    budget: float,
    tuned_in: Path | None = None,
    rates: float = 1.0,
) -> tuple[Comparison, list[str]]:
    """An experiment with all methods that are compared on it, and the names of the rows to measure.

    Every search has as many trials.

    Args:
        name: of the experiment.
        published: names of rows.
        asked: rows; None: those that every table has, and both of each published method that is there.
        changes: of its settings, `KEY=VALUE`; those of a method of the user's hold for that one.
        budget: share of its epochs and trials.
        tuned_in: the directory of another comparison's searches, whose best settings tuned rows are to have.
        rates: what all learning rates are multiplied with.

    Raises:
        ExperimentError: it cannot be compared, or there is no such search.
    """
    original, wanted_rows = experiments.load(name), [*(asked or _all(published))]
    given = dict(change.partition("=")[::2] for change in changes)
    own = load(name, _changes_of(given.get("method", original.method), changes, wanted_rows))
    wanted = [row.where(name_of(own.method)) for row in wanted_rows]
    others = dict.fromkeys(row.method for row in wanted if row.method not in (None, DENSE))
    all_methods = {None: own} | {
        method: load(name, [*_changes_of(method, changes, wanted_rows), f"method={method}"]) for method in others
    }
    short = {method: shorten(_with_rates(each, rates), budget) for method, each in all_methods.items()}
    trials = max(each.trials for each in short.values())
    alike = {method: each.model_copy(update={"trials": trials}) for method, each in short.items()}
    tuned = dict.fromkeys(name_of(row.method or own.method) for row in wanted if row.tuned)
    found = {method: _found(tuned_in / f"search-{method}", rates) for method in tuned} if tuned_in else {}
    by_name = {method: alike[method] for method in others if method}
    comparison = Comparison(name, alike[None], original, others=by_name, found=found)
    return comparison, list(dict.fromkeys(row.name for row in wanted))


def _with_rates(experiment: Experiment, factor: float) -> Experiment:
    """The experiment with its learning rates multiplied."""
    if factor == 1:
        return experiment
    return experiment.with_settings(scaled({key: experiment.value(key) for key in RATES}, factor))


def _found(path: Path, rates: float) -> Found:
    """The best settings of a search, with their learning rates multiplied.

    Raises:
        ExperimentError: there is none.
    """
    run = RunDirectory(path)
    if not run.used:
        raise ExperimentError(f"{path} holds no search; name the directory that has it, as of a finished comparison")
    if not (winners := best(run.trials())):
        raise ExperimentError(f"{path}: no trial has ended; go on with that search first")
    return Found(run, scaled(winners[0].settings, rates))


def _changes_of(method: str | None, changes: Iterable[str], rows: Iterable[Row]) -> list[str]:
    """The changes without those of sections that only other methods of these rows have, `package.module:Class`."""
    absent = {name_of(row.method) for row in rows if row.method and ":" in row.method and row.method != method}
    absent -= {name_of(str(method))}
    keys = [(change, change.partition("=")[0].removeprefix("search.")) for change in changes]
    return [change for change, key in keys if key.partition(".")[0] not in absent]


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
        folders = (f"search-{name_of(method)}", f"{Row(method, tuned=False).folder}-test")
        if not any((directory / folder).exists() for folder in folders):
            experiments.append(each)
    return experiments
