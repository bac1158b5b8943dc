"""`python -m oialr_hpo.benchmark importance`: which settings of recorded trainings decided their scores.

`of all` is the share of the scores' variance over the whole search space (fANOVA, Hutter et al. 2014), by a forest: it
says what must not be wrong. `of the best` says what sets the best tenth of the settings apart from all (PED-ANOVA,
Watanabe et al. 2023). Both add up to 1. Intervals are the bootstrap's over the recorded settings, 5 to 95 %. The last
column is the median of the best tenth and its quartiles, or its most frequent choice.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from oialr_hpo.benchmark.measure import print_table
from oialr_hpo.benchmark.records import RECORDS, Records, find
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.report import study
from oialr_hpo.report.importance import Importance, importances
from oialr_hpo.runs.scoring import rate
from oialr_hpo.runs.trial import Role, State, Trial

TREES, BEST = 32, 0.1


def as_study(records: Records) -> optuna.Study:
    """A complete trial for each of the settings, with the mean score of its seeds, where all of these ended well."""
    score, trials = records.experiment.score, []
    ends = {name: curve[:, :, -1].mean(axis=1) for name, curve in records.curves.items()}
    for number, settings in enumerate(records.settings):
        end = {name: float(values[number]) for name, values in ends.items()}
        trial = Trial(number, Role.PROPOSAL, settings, seed=0, worker=0, state=State.COMPLETE)
        rate(trial, end, score)
        if all(map(np.isfinite, end.values())):
            trials.append(trial)
    return study.derive(trials, records.experiment, study.minimized(records.experiment))


def measure(records: Records, resamples: int) -> None:
    """Print a row for each setting."""
    searched, keys = as_study(records), list(records.experiment.space.parameters)
    forest = partial(FanovaImportanceEvaluator, n_trees=TREES, seed=0)
    of_all = importances(searched, keys, evaluator=forest, resamples=resamples)
    of_best = importances(searched, keys, evaluator=PedAnovaImportanceEvaluator, resamples=resamples)
    ranked = sorted((trial for trial in searched.trials if trial.values), key=lambda trial: trial.values[0])
    best = ranked[: round(BEST * len(ranked))]
    rows = [
        (key, _shown(of_all[key]), _shown(of_best[key]), _typical([trial.params[key] for trial in best]))
        for key in of_all
    ]
    print_table([("setting", "of all", "of the best", "the best have"), *rows])


def _typical(values: Sequence[Any]) -> str:
    if isinstance(values[0], (bool, str)):
        common, count = Counter(values).most_common(1)[0]
        return f"{common} ({count / len(values):.0%})"
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:.2g} ({low:.2g} to {high:.2g})"


def _shown(found: Importance) -> str:
    return f"{found.share:.2f} ({found.low:.2f} to {found.high:.2f})"


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark importance", __doc__, "--records vit_digits --resamples 5")
    parser.add_argument("--records", nargs="+", default=["vit_digits", "vit_cifar"], metavar="NAME", help=RECORDS)
    parser.add_argument("--resamples", type=positive, default=20, metavar="N", help="for the intervals")
    options = parser.parse_args(arguments)
    for name in options.records:
        file = find(name)
        records = Records.load(file)
        print(f"{file.stem}: {len(records.settings)} settings by {records.low_rank.shape[1]} seeds\n")
        measure(records, options.resamples)
        print()
