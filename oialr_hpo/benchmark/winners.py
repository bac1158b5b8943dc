"""`python -m oialr_hpo.benchmark winners RUN...`: whether what searches export is worth what they say.

`RUN-fresh` beside each finished search has trainings of its best settings with fresh seeds:
`python -m oialr_hpo.train RUN --seeds 91 92 93 --out RUN-fresh`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from oialr_hpo.benchmark.measure import print_table
from oialr_hpo.commands import Parser, command, path
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import Role, State

HEADER = ["search", "claimed", "trainings", "fresh seeds", "claimed - fresh", "within", "epochs trained"]


@dataclass(frozen=True)
class Claim:
    """What a search says of its best settings, and what is true of them; scores are to be small.

    Attributes:
        error: standard error of the difference between `claimed` and `fresh`.
        counted: trainings that `claimed` is the mean of.
        epochs: over all trials of the search.
    """

    name: str
    claimed: float
    counted: int
    fresh: float
    error: float
    epochs: int

    @property
    def difference(self) -> float:
        return self.claimed - self.fresh

    @property
    def holds(self) -> bool:
        """Whether the claim is too good by no more than one standard error."""
        return self.difference >= -self.error

    @classmethod
    def of(cls, run: RunDirectory) -> "Claim":
        """
        Raises:
            Mistake: the search has no winner, or its settings were not trained again twice.
        """
        trials = run.trials()
        ranked = standings(trials)
        if not ranked:
            raise Mistake(f"{run.path}: no trial has a score; leave it out")
        again = RunDirectory.open(run.path.with_name(f"{run.path.name}-fresh"))
        fresh = [trial.goals[0] for trial in again.trials() if trial.state is State.COMPLETE]
        if len(fresh) < 2:
            raise Mistake(f"{again.path}: two seeds at least tell a mean; train with more --seeds")
        counted = len(ranked[0].counted)
        error = stdev(fresh) * (1 / len(fresh) + 1 / counted) ** 0.5
        epochs = sum(trial.epochs[-1]["epoch"] for trial in trials if trial.epochs and trial.role is not Role.DENSE)
        return cls(run.name, ranked[0].goals[0], counted, fmean(fresh), error, epochs)


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark winners", __doc__, "runs/digits-1 runs/digits-2")
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN", help="run directories of finished searches")
    options = parser.parse_args(arguments)
    claims = [Claim.of(RunDirectory.open(run)) for run in options.runs]
    rows = [HEADER]
    for each in claims:
        row = [each.name, f"{each.claimed:.4f}", str(each.counted), f"{each.fresh:.4f}", f"{each.difference:+.4f}"]
        rows.append([*row, "yes" if each.holds else f"no, beyond {each.error:.4f}", str(each.epochs)])
    print_table(rows)
    fresh = [each.fresh for each in claims]
    error = stdev(fresh) / len(fresh) ** 0.5 if len(fresh) > 1 else float("nan")
    too_good = fmean(each.difference for each in claims)
    holding = sum(each.holds for each in claims)
    print(f"\n{len(claims)} searches: {fmean(fresh):.4f} +- {error:.4f} with fresh seeds, claims {too_good:+.4f} off")
    print(f"{holding} of {len(claims)} claims hold within one standard error")
    print(f"{fmean(each.epochs for each in claims):.0f} epochs a search")
