"""`python -m oialr_hpo.benchmark probe --plain RUN... --probed RUN...`: whether a probe pays.

Both lists are finished searches of one experiment with the same seeds in the same order, the second with `--probe`. A
score counts when its trial ends. The probe's cost is counted in trials: the time for which it held the workers, over
the mean time of the trials of its search.
"""

from collections.abc import Sequence
from math import ceil, inf
from statistics import fmean, median

from oialr_hpo.benchmark.measure import print_table
from oialr_hpo.commands import Parser, command, path
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.trial import Trial

PARTS = (0.25, 0.5, 0.75, 1.0)
"""Of the plain search: the targets are the scores that it had reached by then."""


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark probe", __doc__, "--plain runs/plain-1 --probed runs/probed-1")
    for kind in ("plain", "probed"):
        parser.add_argument(f"--{kind}", nargs="+", type=path, required=True, metavar="RUN", help="run directories")
    options = parser.parse_args(arguments)
    plain, probed = ([RunDirectory.open(run) for run in runs] for runs in (options.plain, options.probed))
    check(plain, probed)
    print(report(plain, probed))
    print_table(table(plain, probed))


def check(plain: Sequence[RunDirectory], probed: Sequence[RunDirectory]) -> None:
    """Refuse runs that cannot be compared.

    Raises:
        RunDirectoryError: the message names the run.
    """
    if len(plain) != len(probed):
        raise RunDirectoryError(f"{len(plain)} plain runs and {len(probed)} probed ones; give as many of each")
    for one, other in zip(plain, probed, strict=True):
        if "probe" not in (other.experiment.evidence or {}):
            raise RunDirectoryError(f"{other.path} was searched without a probe; search with --probe")
        if one.experiment.seed != other.experiment.seed:
            seeds = one.experiment.seed, other.experiment.seed
            raise RunDirectoryError(f"{one.path} has seed {seeds[0]}, {other.path} {seeds[1]}; pair equal seeds")


def scores(run: RunDirectory) -> list[float]:
    """Best score, to be minimised, after the first, second, ... trial to end; infinite before there is one."""
    trials = sorted((trial for trial in run.trials() if trial.finished), key=_end)
    lowest, best = [], inf
    for trial in trials:
        best = min(best, trial.goals[0] if trial.candidate else inf)
        lowest.append(best)
    return lowest


def _end(trial: Trial) -> float:
    return trial.started + trial.elapsed


def cost(run: RunDirectory) -> float:
    """Of the probe of a search, in trials."""
    held = (run.experiment.evidence or {})["probe"]["seconds"] * run.environment["workers"]
    return float(held / fmean(trial.elapsed for trial in run.trials() if trial.finished))


def needed(lowest: Sequence[float], target: float) -> float:
    """How many trials had ended when the score was reached; infinite if it was not."""
    return next((count for count, score in enumerate(lowest, 1) if score <= target), inf)


def report(plain: Sequence[RunDirectory], probed: Sequence[RunDirectory]) -> str:
    costs = [cost(run) for run in probed]
    ends = [(scores(one)[-1], scores(other)) for one, other in zip(plain, probed, strict=True)]
    after = [
        (end, lowest[max(1, len(lowest) - ceil(price)) - 1]) for (end, lowest), price in zip(ends, costs, strict=True)
    ]
    gains = [end - other for end, other in after]
    return (
        f"{len(plain)} pairs of searches; the probe cost {fmean(costs):.1f} trials on average ({min(costs):.1f} to "
        f"{max(costs):.1f}).\nAt equal cost the probed search ended with the better score in "
        f"{sum(gain > 0 for gain in gains)} pairs, with the worse one in {sum(gain < 0 for gain in gains)}; "
        f"its score is lower by {fmean(gains):.4f} on average (median {median(gains):.4f}).\n"
    )


def table(plain: Sequence[RunDirectory], probed: Sequence[RunDirectory]) -> list[list[str]]:
    """Trials needed to reach what the plain search had reached after a part of its trials."""
    rows = [["score of the plain search after", "trials, plain", "trials, probe included", "probe was faster"]]
    pairs = [(scores(one), scores(other), cost(other)) for one, other in zip(plain, probed, strict=True)]
    for part in PARTS:
        without, including = [], []
        for lowest, other, price in pairs:
            target = lowest[ceil(part * len(lowest)) - 1]
            without.append(needed(lowest, target))
            including.append(needed(other, target) + price)
        never = sum(count == inf for count in including)
        faster = sum(a > b for a, b in zip(without, including, strict=True))
        rows.append(
            [
                f"{part:.0%} of its trials",
                f"{median(without):.1f}",
                f"{median(including):.1f}" + (f" (never in {never})" if never else ""),
                f"{faster} of {len(pairs)}",
            ]
        )
    return rows
