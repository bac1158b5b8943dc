"""A search of ours in virtual time: the real desk, sampler, early stopping and ranking, over a recorded world."""

import heapq
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from oialr_hpo.benchmark.economy_trunks import Trunks
from oialr_hpo.benchmark.recorded_world import World
from oialr_hpo.engines.desk import Desk
from oialr_hpo.engines.early_stopping import Point, stopped
from oialr_hpo.engines.proposer import Proposer
from oialr_hpo.experiment.settings import EarlyStopping, Finalists
from oialr_hpo.experiment.space import Value, as_text
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.scoring import judge, rate_unfinished
from oialr_hpo.runs.trial import State, Trial

APART = 10**6
"""Between the seeds of two searches."""


class Searched(NamedTuple):
    """What became of a search.

    Attributes:
        truth: the mean score of what it exports.
        claimed: the score that it reports of it.
        seconds: of training, over all trials.
        lost: whether the trial that would have been the best had all been finished was not finished.
    """

    truth: float
    claimed: float
    seconds: float
    lost: bool


def lost(world: World, tried: Iterable[tuple[Mapping[str, Value], int, bool]]) -> bool:
    """Of all (settings, seed, finished) that were tried, whether the best was not finished."""
    return not min(tried, key=lambda each: world.score(each[0], each[1]))[2]


def search(
    world: World,
    changes: Mapping[str, Any],
    workers: int,
    seed: int,
    kills: bool = False,
    trunks: Trunks | None = None,
) -> Searched:
    """One search.

    Args:
        world: where.
        changes: to the settings, by dotted key.
        workers: how many train at a time.
        seed: of the search.
        kills: what early stopping stops has ended, instead of waiting.
        trunks: which some proposals branch off.
    """
    plain = {"early_stopping": EarlyStopping(), "finalists": Finalists()}  # unlike what was recorded
    usual = {"dense_baseline": False, "sampler.name": "tpe", "seed": APART * seed}
    experiment = world.experiment.model_copy(update=plain, deep=True).with_settings(usual | dict(changes))
    desk = Desk(experiment, workers, [], say=lambda text: None)
    proposer = Proposer(experiment, [], workers, desk)
    running: list[tuple[float, int, Trial, list[dict[str, Any]]]] = []  # when a worker's next epoch ends
    idle, now, trials = [*range(workers)], 0.0, dict[int, Trial]()

    spared = trunks.spared if trunks else dict[int, float]()

    def until_next(trial: Trial, left: list[dict[str, Any]]) -> float:
        return max(0.0, left[0]["seconds"] - max(trial.seconds, spared.get(trial.number, 0.0)))

    def stops(number: int, point: Point, judged: bool) -> bool:
        desk.report(number, point)
        return judged and desk.stops(number)

    while True:
        while idle and (ticket := desk.next()):
            worker = idle.pop()
            ticket = trunks.take(ticket, trials.values()) if trunks else ticket
            settings = proposer.settings(ticket, worker)
            trial = Trial(ticket.number, ticket.role, settings, ticket.seed, worker, started=now)
            trial.epochs, trial.seconds, trial.attempt = list(ticket.epochs), ticket.seconds, ticket.attempt
            left = [*world.training(settings, ticket.seed)][len(trial.epochs) :]
            heapq.heappush(running, (now + until_next(trial, left), worker, trial, left))
        if not running:
            break
        now, worker, trial, left = heapq.heappop(running)
        trial.add(left.pop(0))
        trial.seconds = trial.epochs[-1]["seconds"]
        if stopped(trial, experiment, stops):
            rate_unfinished(trial, experiment.score)
            trial.state = State.PRUNED if kills else State.PAUSED
        elif not left:
            judge(trial, experiment)
        else:
            heapq.heappush(running, (now + until_next(trial, left), worker, trial, left))
            continue
        idle.append(worker)
        trials[trial.number] = trial
        proposer.tell(trial)
        desk.ended(trial)
    winner = standings(trials.values())[0]
    first = {as_text(trial.settings): trial for trial in reversed(sorted(trials.values(), key=lambda t: t.number))}
    return Searched(
        world.truth(winner.trial.settings),
        winner.goals[0],
        sum(max(0.0, trial.seconds - spared.get(number, 0.0)) for number, trial in trials.items()),
        lost(world, [(trial.settings, trial.seed, trial.state is State.COMPLETE) for trial in first.values()]),
    )
