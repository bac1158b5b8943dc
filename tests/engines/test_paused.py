"""Trials that are behind wait, and go on where they stopped: in one process, over MPI, after a kill."""

import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo import samplers, search
from oialr_hpo.engines import paused
from oialr_hpo.engines.desk import Desk, Ticket
from oialr_hpo.engines.early_stopping import Point, stopped
from oialr_hpo.engines.population import Population
from oialr_hpo.experiment import Experiment, Sampler, load
from oialr_hpo.files import discard
from oialr_hpo.loggers._following import Following
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.scoring import judge, rate_unfinished
from oialr_hpo.runs.trial import State, Trial
from oialr_hpo.training.objective import evaluate
from tests.engines.test_nothing_is_lost import ROOT, events, kill
from tests.engines.test_propulate import MPIRUN, SCRIPT, mpirun, needs_mpi
from tests.engines.test_search import run
from tests.loggers.recorded import Notebook
from tests.tiny_task import tiny

STOPPING = "early_stopping={enabled: true, rungs: [0.5], minimum: 1, recovery: 0.0}"
CHANGES = [STOPPING, "training.epochs=4", "dense_baseline=false", "start_from=[]", "finalists.count=0"]
KEPT = "tests.objectives:kept"


def epochs_trained(out: Path) -> Counter[tuple[Any, Any]]:
    """How often each epoch of each trial was trained."""
    return Counter((event["number"], event["epoch"]) for event in events(out) if event["event"] == "epoch")


def test_a_trial_that_was_paused_has_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    """The second learning rate learns nothing: it waits until nothing else is left."""
    changes = {"search": {"schedule.lr": {"choices": [1e-2, 1e-7]}}, "start_from": [{"schedule.lr": 1e-2}]}
    experiment = Experiment.model_validate(tiny().dump() | changes | {"dense_baseline": False, "trials": 2})
    stopping = {"early_stopping.rungs": [0.5], "early_stopping.minimum": 1, "early_stopping.recovery": 0.0}
    done = search.run(experiment.with_settings(stopping), out=tmp_path / "run")
    first, second = done.trials()
    assert [first.state, second.state] == [State.COMPLETE] * 2 and (first.attempt, second.attempt) == (1, 2)
    ends = [event["state"] for event in events(done.path) if event["event"] == "end"]
    assert ends == ["complete", "paused", "complete"] and set(epochs_trained(done.path).values()) == {1}
    alone = list(evaluate(done.experiment.trial(second.settings), seed=second.seed, threads=second.threads))
    told = ("epoch", "train_loss", "mse", "mark", "ranks", "trainable_percent", "step")
    assert [[record[key] for key in told] for record in second.epochs] == [[r[key] for key in told] for r in alone]
    assert not any((done.path / "checkpoints").iterdir())
    assert second.seconds > second.epochs[-1]["seconds"] > 0


def test_what_cannot_be_kept_is_pruned(tmp_path: Path) -> None:
    """An objective of one's own that keeps nothing."""
    done = run(tmp_path / "run", *CHANGES, "trials=12", "training.epochs=3", objective="tests.objectives:bowl")
    assert {trial.state for trial in done.trials()} == {State.COMPLETE, State.PRUNED}
    assert not (done.path / "checkpoints").exists()


def test_what_the_disk_does_not_take_is_pruned(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file, where a directory is expected")
    done = run(tmp_path, *CHANGES, "trials=12", objective=KEPT)
    assert {trial.state for trial in done.trials()} == {State.COMPLETE, State.PRUNED}
    assert "the trial cannot go on later" in "".join(file.read_text() for file in (tmp_path / "logs").iterdir())


@needs_mpi
@pytest.mark.parametrize(("ranks_per_trial", "sampler"), [(1, "evolution"), (2, "pso")])
def test_what_one_rank_paused_goes_on_on_another(tmp_path: Path, ranks_per_trial: int, sampler: str) -> None:
    out, ranks = tmp_path / "run", 3 if ranks_per_trial == 1 else 4
    script = SCRIPT.replace("objective=objective", f"objective=objective, ranks_per_trial={ranks_per_trial}")
    done = mpirun(ranks, "-c", script, str(out), KEPT, "", "trials=24", f"sampler.name={sampler}", *CHANGES)
    assert done.returncode == 0, done.stderr
    directory = RunDirectory.open(out)
    trials = directory.trials()
    assert [trial.number for trial in trials] == list(range(24)) and "[24/24]" in done.stdout
    assert {trial.state for trial in trials} <= {State.COMPLETE, State.PRUNED}
    assert set(epochs_trained(out).values()) == {1} and not any((out / "checkpoints").iterdir())
    for trial in trials:
        assert [record["epoch"] for record in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert len(trial.epochs) == (4 if trial.state is State.COMPLETE else 2)
    workers: dict[Any, set[Any]] = {}
    for event in events(out):
        if event["event"] == "start":
            workers.setdefault(event["number"], set()).add(event["worker"])
    assert any(len(each) > 1 for each in workers.values())


@needs_mpi
def test_what_waits_when_all_are_killed_goes_on_with_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [str(MPIRUN), "-n", "3", sys.executable, "-c", SCRIPT, str(out), KEPT, "", "trials=1000", *CHANGES]
    searching = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    while searching.poll() is None and len(list(out.glob("checkpoints/*.pt"))) < 3:
        time.sleep(0.02)
    kill(out, searching, everything=True)
    before = RunDirectory.open(out).trials()
    waiting = {trial.number: trial for trial in before if trial.state is State.PAUSED}
    assert waiting and {path.name for path in (out / "checkpoints").iterdir()} >= {
        f"trial-{number:05d}.pt" for number in waiting
    }
    Following(RunDirectory.open(out), {"notebook": Notebook}, print).poll()
    again = run(out, *CHANGES, f"trials={len(before)}", objective=KEPT, jobs=1, resume=True)
    after = {trial.number: trial for trial in again.trials()}
    assert set(after) == {trial.number for trial in before} and all(trial.state.final for trial in after.values())
    gone_on = [number for number in waiting if after[number].state is State.COMPLETE]
    assert gone_on and all(epochs_trained(out)[number, epoch] == 1 for number in gone_on for epoch in (1, 2, 3, 4))
    assert [after[number].attempt for number in gone_on] == [waiting[number].attempt + 1 for number in gone_on]
    Following(again, {"notebook": Notebook}, print).poll()
    for number in gone_on:
        told = [line for line in (out / "heard.txt").read_text().splitlines() if line.split()[1] == str(number)]
        epochs = [f"epoch {number} {epoch}" for epoch in (1, 2, 3, 4)]
        pause = [f"end {number} paused True", f"begin {number} 2"]
        assert told == [f"begin {number} 0", *epochs[:2], *pause, *epochs[2:], f"end {number} complete True"]
    assert not any((out / "checkpoints").iterdir())


ONE_GOAL = load("vit_digits", [*CHANGES, "early_stopping.rungs=[0.25, 0.5]", "training.epochs=8", "trials=30"])
TWO_GOALS = load("vit_digits", [*CHANGES, "training.epochs=8", "trials=30", "score={minimize: [error, total_percent]}"])
Curves = Callable[[int, int], dict[str, float]]
"""What a trial of this number measures in an epoch."""


def searched(
    experiment: Experiment, curves: Curves, workers: int, seed: int, restarts: int = 0, **options: Any
) -> list[Trial]:
    """The trials of a search without processes, in which chance says whose epoch is next, and when all are killed."""
    chance, trials = random.Random(seed), dict[int, Trial]()
    killed = {chance.randrange(60) for _ in range(restarts)}
    desk, running, step = Desk(experiment, workers, [], say=str, **options), list[Trial](), 0

    def stops(number: int, point: Point, judged: bool) -> bool:
        desk.report(number, point)
        return judged and desk.stops(number)

    while True:
        while len(running) < workers and (ticket := desk.next()):
            trial = begun(ticket, trials)
            running.append(trial)
        if not running:
            desk.close()
            return [trials[number] for number in sorted(trials)]
        step += 1
        if step in killed:
            desk, running = Desk(experiment, workers, list(trials.values()), say=str, **options), []
            continue
        trial = chance.choice(running)
        epoch = len(trial.epochs) + 1
        trial.add({"epoch": epoch} | curves(trial.number, epoch))
        if stopped(trial, experiment, stops):
            rate_unfinished(trial, experiment.score)
            trial.state = State.PAUSED
        elif epoch == 8:
            judge(trial, experiment)
        if trial.finished:
            running.remove(trial)
            desk.ended(trial)


def begun(ticket: Ticket, trials: dict[int, Trial]) -> Trial:
    """What a worker makes of a ticket."""
    before = trials.get(ticket.number)
    settings = ticket.settings or {"oialr.cutoff": 0.01 + 0.01 * ticket.number}
    made = Trial(ticket.number, ticket.role, settings, ticket.seed, worker=0, attempt=ticket.attempt)
    made.epochs = list(ticket.epochs)
    if before:
        assert before.state in (State.PAUSED, State.RUNNING) and made.attempt == before.attempt + 1
        assert (made.settings, made.seed, made.epochs) == (before.settings, before.seed, before.epochs)
    else:
        assert made.attempt == 1 and not made.epochs
    trials[ticket.number] = made
    return made


LEVELS = st.lists(st.tuples(*2 * [st.integers(0, 20)]), min_size=30, max_size=30)


@settings(max_examples=60)
@given(LEVELS, st.integers(1, 4), st.integers(0, 2), st.sampled_from([ONE_GOAL, TWO_GOALS]), st.integers(0, 99))
def test_where_curves_are_parallel_nothing_that_is_best_is_lost(
    levels: list[tuple[int, int]], workers: int, restarts: int, experiment: Experiment, seed: int
) -> None:
    """Whatever the order of epochs, the number of workers and the kills."""

    def curves(number: int, epoch: int) -> dict[str, float]:
        first, second = levels[number]
        return {"error": first + 64 / epoch, "total_percent": second - epoch, "trainable_percent": 10.0}

    trials = searched(experiment, curves, workers, seed, restarts)
    assert [trial.number for trial in trials] == list(range(30))
    goals = 1 if experiment is ONE_GOAL else 2
    complete = {levels[trial.number][:goals] for trial in trials if trial.state is State.COMPLETE}
    for one in {level[:goals] for level in levels}:
        beaten = any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in complete)
        assert beaten or one in complete


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(0, 2))
def test_any_curves_end(seed: int, workers: int, restarts: int) -> None:
    chance = random.Random(seed)
    errors = [[chance.choice([chance.random(), math.nan]) for _ in range(8)] for _ in range(30)]

    def curves(number: int, epoch: int) -> dict[str, float]:
        return {"error": errors[number][epoch - 1], "trainable_percent": 10.0}

    for trial in searched(ONE_GOAL, curves, workers, seed, restarts):
        assert [record["epoch"] for record in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert trial.state is State.PAUSED or len(trial.epochs) == 8


@pytest.mark.parametrize(("free", "most"), [(2**40, paused.WAITING), (30, 10), (0, 0)])
def test_checkpoints_are_bounded_in_number_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, most: int
) -> None:
    """Of trials that are worse one after another late ones are given up, and at the end all."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    experiment = ONE_GOAL.with_settings({"trials": 60})
    kept: list[list[int]] = []

    def checkpoint(number: int) -> Path:
        return tmp_path / str(number)

    def curves(number: int, epoch: int) -> dict[str, float]:
        kept.append([int(file.name) for file in tmp_path.iterdir() if int(file.name) != number])
        discard(checkpoint(number)) if epoch == 8 else checkpoint(number).write_text("x")
        return {"error": float(number), "trainable_percent": 10.0}

    trials = searched(experiment, curves, workers=1, seed=0, checkpoint=checkpoint)
    behind = [trial.number for trial in trials if trial.state is State.PAUSED]
    assert len(trials) == 60 and len(behind) > 20 and max(map(len, kept)) == most
    assert set(behind[: most // 2]) <= set(kept[-1]) <= set(behind) and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", samplers.NAMES)
def test_a_sampler_learns_of_a_trial_once(name: str) -> None:
    """What it knew of one that was paused gives way to what became of it, also where the news overtake each other."""
    sampler = Sampler(name=name)
    propose = samplers.make_propagator(sampler, ONE_GOAL.space, samplers.Place(rank=0, workers=1, trials=30, seed=0))
    population, told = Population(), []
    for number in range(8):
        individual = propose(population)
        individual.rank, individual.generation, individual.loss = 0, number, 1e15 if number % 2 else 0.1 * number
        individual.settings, individual.number, individual.attempt = f"{number}", number, 1
        population.enter(individual)
        told.append(individual)
    propose(population)
    further = samplers.individual(ONE_GOAL.space, told[3].position)
    further.settings, further.number, further.attempt, further.loss = "3", 3, 2, 0.01
    population.enter(further)
    population.enter(told[3])
    assert [one.number for one in population] == list(range(8)) and population[3].loss == 0.01
    assert (population[3].position == told[3].position).all() and population[3].generation == 3
    assert ((propose(population).position >= 0) & (propose(population).position <= 1)).all()
