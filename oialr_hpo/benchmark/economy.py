"""`python -m oialr_hpo.benchmark economy`: how good what a search exports is, against what the search spends.

Searches run in virtual time over recorded trainings (`benchmark record` makes them): ours with its real parts and with
some of them off, and others (`oialr_hpo.benchmark.economy_peers`). Budgets are trials of ours, and whole trainings of
the others. The unit of compute is a whole training, as long as one takes on average.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from oialr_hpo.benchmark import economy_peers
from oialr_hpo.benchmark.economy_search import Searched, search
from oialr_hpo.benchmark.economy_trunks import Trunks
from oialr_hpo.benchmark.measure import print_row
from oialr_hpo.benchmark.recorded_world import PARTS, World
from oialr_hpo.benchmark.records import RECORDS, Records, find
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.mistake import Mistake

Strategy = Callable[[World, int, int, int], Searched]
"""Searches (world, budget, workers, seed)."""
BEFORE = "defaults before"
BRANCHES, TRUNKS = 0.33, 1
"""The share of proposals that branch off, and of how many trials: of those tried on the even part, the best."""
ENOUGH = 0.2
"""The chance at which a search ends early."""
HEADER = ["strategy".ljust(24), "budget", "true score +- s.e.", "claimed - true", "compute", "best one lost"]


def _ours(
    world: World, budget: int, workers: int, seed: int, changes: dict[str, object], kills: bool = False
) -> Searched:
    return search(world, {"trials": budget} | changes, workers, seed, kills)


def _branching(world: World, budget: int, workers: int, seed: int) -> Searched:
    return search(world, {"trials": budget}, workers, seed, trunks=Trunks(world, BRANCHES, TRUNKS, seed))


def strategies() -> dict[str, Strategy]:
    """By name."""
    sooner: dict[str, object] = {"early_stopping.rungs": [0.25, 0.5]}
    single: dict[str, object] = sooner | {"finalists.count": 0}
    whole: dict[str, object] = {"early_stopping.enabled": False}
    ours: dict[str, Strategy] = {
        BEFORE: partial(_ours, changes=single, kills=True),
        "before, none stopped": partial(_ours, changes=single | whole),
        "before, pausing": partial(_ours, changes=single),
        "defaults": partial(_ours, changes={}),
        "defaults, judged sooner": partial(_ours, changes=sooner),
        "defaults, none stopped": partial(_ours, changes=whole),
        "defaults, killing": partial(_ours, changes={}, kills=True),
        "defaults, branching": _branching,
        "defaults, ending early": partial(_ours, changes={"stop_when": ENOUGH}),
    }
    return ours | economy_peers.known()


def reach(points: Sequence[tuple[float, float]], truth: float) -> float | None:
    """The compute at which a line through points of (compute, score) comes down to a score; None: it does not."""
    points = sorted(points)
    if points[0][1] <= truth:
        return points[0][0]
    for (before, worse), (after, better) in pairwise(points):
        if better <= truth:
            return before + (after - before) * (worse - truth) / (worse - better)
    return None


def measure(
    world: World, chosen: dict[str, Strategy], budgets: Sequence[int], full: int, workers: int, seeds: int
) -> None:
    """Print a row for each strategy and budget, then what each needs."""
    print_row(HEADER, HEADER)
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, strategy in chosen.items():
        lines[name] = []
        for budget in budgets:
            found = np.array([strategy(world, budget, workers, seed) for seed in range(seeds)])
            truth, claimed, seconds, lost = found.T
            error = truth.std(ddof=1) / seeds**0.5 if seeds > 1 else np.nan
            compute = seconds.mean() / world.seconds
            lines[name].append((compute, truth.mean()))
            figures = [f"{truth.mean():.4f} +- {error:.4f}", f"{(claimed - truth).mean():+.4f}", f"{compute:.1f}"]
            print_row([name.ljust(24), str(budget), *figures, f"{lost.mean():.0%}"], HEADER)
    if BEFORE not in lines or full not in budgets:
        return
    spent, aim = lines[BEFORE][budgets.index(full)]
    needs = {name: reach(points, aim) for name, points in lines.items()}
    shares = [f"{name} {'never' if need is None else f'{need / spent:.2f}'}" for name, need in needs.items()]
    print(f"\nCompute until {aim:.4f} ({BEFORE} at {full} trials), as a share of theirs: {'; '.join(shares)}\n")


@command
def main(arguments: Sequence[str]) -> None:
    known = strategies()
    parser = Parser("benchmark economy", __doc__, "--part odd --trials 20")
    parser.add_argument("--records", nargs="+", default=["vit_digits"], metavar="NAME", help=RECORDS)
    parser.add_argument(
        "--part", choices=PARTS, help="of the records: even to tune with, odd for final figures (default: all)"
    )
    parser.add_argument("--seeds", type=positive, default=100, metavar="N", help="searches of each")
    parser.add_argument("--trials", nargs="+", type=positive, default=[8, 12, 20, 40], metavar="N", help="budgets")
    parser.add_argument("--full", type=positive, default=20, metavar="N", help="the budget to compare with")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="that train at a time")
    parser.add_argument("--strategies", nargs="+", default=list(known), metavar="NAME", help=f"of: {'; '.join(known)}")
    options = parser.parse_args(arguments)
    for name in options.strategies:
        if name not in known:
            raise Mistake(f"no strategy {name!r}; choose among {'; '.join(known)}")
    for name in options.records:
        file = find(name)
        world = World(Records.load(file), options.part)
        of, searches = f"{options.part} part" if options.part else "all", f"{options.seeds} searches of each"
        print(f"{file.stem}, {of}: {world.settings} settings by {world.seeds} seeds, {searches}", end=", ")
        print(f"{options.workers} workers; a training takes {world.seconds:.3g} s\n")
        chosen = {name: known[name] for name in options.strategies}
        measure(world, chosen, options.trials, options.full, options.workers, options.seeds)
