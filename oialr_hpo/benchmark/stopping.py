"""`python -m oialr_hpo.benchmark stopping RUN...`: what early stopping would have saved, and what it would have cost.

The runs are finished searches with `early_stopping.enabled=false`, so that every trial's whole curve is known. Their
epochs are replayed in the order in which they ended, and the trials judged as a search would have judged them. The
sampler does not get to know of it: it proposed the same trials as without.
"""

from collections.abc import Sequence
from statistics import fmean, median

from oialr_hpo.benchmark.measure import print_table
from oialr_hpo.commands import Parser, command, path
from oialr_hpo.engines.early_stopping import Rungs, curve, due
from oialr_hpo.experiment import EarlyStopping, Experiment
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import Role, State, Trial

VARIANTS = {
    "default": {},
    "no window after the change-over": {"recovery": 0.0},
    "one in three goes on": {"factor": 3.0},
    "one in four goes on": {"factor": 4.0},
    "judged at 0.25 and 0.5": {"rungs": [0.25, 0.5]},
}


def replay(trials: Sequence[Trial], experiment: Experiment) -> dict[int, int]:
    """After how many epochs which trials are stopped, by number."""
    rungs = Rungs(experiment)
    curves = {trial.number: curve(trial, experiment) for trial in trials}
    roles = {trial.number: trial.role for trial in trials}
    ends = sorted(
        (trial.started + record.get("setup_seconds", 0.0) + record["seconds"], trial.number, epoch)
        for trial in trials
        for epoch, record in enumerate(trial.epochs[: len(curves[trial.number])], 1)
    )
    stopped: dict[int, int] = {}
    for _, number, epoch in ends:
        if number in stopped:
            continue
        points = curves[number][:epoch]
        rungs.report(number, points[-1])
        judged = roles[number] is Role.PROPOSAL and due(points, experiment.early_stopping)
        if judged and rungs.stops(number):
            stopped[number] = epoch
    return stopped


def spent(trials: Sequence[Trial], stopped: dict[int, int]) -> float:
    """Seconds of training, were these trials stopped."""
    return sum(trial.epochs[stopped.get(trial.number, 0) - 1]["seconds"] for trial in trials if trial.epochs)


def row(name: str, runs: Sequence[RunDirectory], settings: EarlyStopping) -> list[str]:
    costs, losses, stops, winners = [], [], [], 0
    for run in runs:
        trials = [trial for trial in run.trials() if trial.state is State.COMPLETE]
        experiment = run.experiment.model_copy(update={"early_stopping": settings})
        stopped = replay(trials, experiment)
        winner, survivor = best(trials)[0], best([trial for trial in trials if trial.number not in stopped])[0]
        costs.append(spent(trials, stopped) / spent(trials, {}))
        stops.append(len(stopped) / len(trials))
        winners += winner.number in stopped
        losses.append(survivor.goals[0] - winner.goals[0])
    return [
        name,
        f"{fmean(stops):.0%}",
        f"{median(costs):.2f} ({min(costs):.2f} to {max(costs):.2f})",
        f"{winners} of {len(runs)}",
        f"{fmean(losses):.4f} (at most {max(losses):.4f})",
    ]


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark stopping", __doc__, "runs/digits-1 runs/digits-2")
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN", help="run directories of finished searches")
    options = parser.parse_args(arguments)
    runs = [RunDirectory.open(run) for run in options.runs]
    for run in runs:
        if run.experiment.early_stopping.enabled:
            raise Mistake(f"{run.path}: it stopped trials early; search with early_stopping.enabled=false")
        if not best(run.trials()):
            raise Mistake(f"{run.path}: no trial has a score; leave it out")
        if any("seconds" not in record for trial in run.trials() for record in trial.epochs):
            raise Mistake(f"{run.path}: its epochs do not say how long they took; leave it out")
    print(f"{len(runs)} searches, {sum(len(run.trials()) for run in runs)} trials\n")
    rows = [["", "stopped", "training time, share (range)", "winner stopped", "best score worse by"]]
    rows += [row(name, runs, EarlyStopping.model_validate(changes)) for name, changes in VARIANTS.items()]
    print_table(rows)
