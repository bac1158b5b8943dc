"""Workers that propose at the same time never try the same settings, as long as there are others."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo import samplers, search
from oialr_hpo.engines.repeats import Repeats
from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Choice, FloatRange, IntRange, Space, parse_line
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best, standings
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.status import status, summary
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi
from tests.samplers.population import ALL

TWENTY_FOUR = Space({"a": Choice(("x", "y", "z")), "b": IntRange(1, 4), "c": Choice((1, 2))})
SEARCH = (
    "search={oialr.cutoff: {choices: [0.1, 0.2, 0.3]}, training.epochs: {int: [9, 12]}, "
    "oialr.keep_last: {choices: [true, false]}}"
)


def simulate(
    name: str, trials: int, workers: int = 3, space: Space = TWENTY_FOUR, seed: int = 0
) -> list[tuple[Any, ...]]:
    """What `workers` try that propose with one desk; the population hears of a trial when it has ended."""
    desk = Repeats(space, [], seed)
    make = [
        samplers.make_propagator(Sampler(name=name), space, samplers.Place(rank, workers, trials, seed))
        for rank in range(workers)
    ]
    population: list[object] = []
    running: list[Any] = []
    tried = []
    for number in range(trials):
        if len(running) == workers:
            population.append(running.pop(0))
        one = make[number % workers](population)
        samplers.move(one, desk.fresh(one.position))
        one.generation, one.rank = number // workers, number % workers
        tried.append(tuple(space.decode(one).values()))
        one.loss = float(tried[-1][1]) + (tried[-1][0] == "x")
        running.append(one)
    return tried


@pytest.mark.parametrize("name", [*ALL, "gp"])
def test_as_many_trials_as_points_try_each_point_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tried = simulate(name, 26)
    assert set(tried[:24]) == set(product("xyz", range(1, 5), (1, 2)))
    said = capsys.readouterr().err
    assert said == "all points of the search space have been tried: trials repeat them, and their mean counts\n"


CONDITIONAL = {
    "a": {"choices": ["x", "y", "z"]},
    "b": {"int": [1, 2]},
    "c": {"int": [1, 5], "step": 2, "when": {"a": "x"}},
    "d": {"choices": [[1], [2]], "when": {"c": [1, 3]}},
    "e": {"int": [1, 2], "times": "b", "when": {"a": "z"}},
}
SETTINGS = [("x", b, c, d) for b in (1, 2) for c in (1, 3) for d in ([1], [2])] + [("x", b, 5) for b in (1, 2)]
SETTINGS += [("y", b) for b in (1, 2)] + [("z", b, e * b) for b in (1, 2) for e in (1, 2)]


@pytest.mark.parametrize("name", [*ALL, "gp"])
def test_settings_that_differ_in_what_is_not_searched_are_tried_once(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"a": "y", "b": 1, "c": 1, "d": [1], "e": 1}
    space = Space({key: parse_line(spec) for key, spec in CONDITIONAL.items()}, own.__getitem__)
    tried = simulate(name, len(SETTINGS) + 2, space=space)
    assert sorted(map(str, tried[: len(SETTINGS)])) == sorted(map(str, SETTINGS))
    assert "all points of the search space have been tried" in capsys.readouterr().err


def test_floats_at_the_border_are_moved_inside_and_nearby() -> None:
    space = Space({"lr": FloatRange(1e-4, 1e-1, log=True), "clip": FloatRange(0.0, 1.0)})
    desk = Repeats(space, [{"lr": 1e-4, "clip": 1.0}], 0)
    corner = np.array([0.0, 1.0])
    moved = [desk.fresh(corner) for _ in range(20)]
    assert len({tuple(genes) for genes in moved}) == 20
    assert all(((genes >= 0) & (genes <= 1)).all() and np.abs(genes - corner).max() < 0.2 for genes in moved)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=24, max_size=24))
def test_any_proposals_become_distinct_and_unrepeated_ones_stay(proposals: list[tuple[float, float, float]]) -> None:
    desk, seen = Repeats(TWENTY_FOUR, [], 0), set()
    for genes in map(np.array, proposals):
        proposed = tuple(TWENTY_FOUR.decode(dict(zip("abc", genes, strict=True))).values())
        tried = tuple(TWENTY_FOUR.decode(dict(zip("abc", desk.fresh(genes), strict=True))).values())
        assert tried not in seen and (proposed in seen or tried == proposed)
        seen.add(tried)


def test_a_large_space_of_whole_numbers() -> None:
    space = Space({key: IntRange(0, 99) for key in "abc"})
    desk = Repeats(space, [], 0)
    tried = {
        tuple(space.decode(dict(zip("abc", desk.fresh(np.full(3, 0.5)), strict=True))).values()) for _ in range(300)
    }
    assert len(tried) == 300


def points(run: RunDirectory) -> list[str]:
    return [str(sorted(trial.settings.items())) for trial in run.trials()]


@pytest.mark.parametrize("sampler", ["tpe", "pso"])
def test_three_jobs_and_a_resumed_search_repeat_nothing(tmp_path: Path, sampler: str) -> None:
    for trials, resume in ((15, False), (24, True)):
        changes = [
            "score.trainable_weight=0.0",
            "early_stopping.enabled=false",
            "dense_baseline=false",
            "start_from=[]",
        ]
        changes += [SEARCH, "finalists.count=0", f"trials={trials}", f"sampler.name={sampler}"]
        done = search.run(
            "vit_digits", changes=changes, out=tmp_path, jobs=3, resume=resume, objective="tests.objectives:bowl"
        )
    assert len(set(points(done))) == len(points(done)) == 24


@needs_mpi
@pytest.mark.parametrize("sampler", ["evolution", "nsga2"])
def test_four_ranks_repeat_nothing(tmp_path: Path, sampler: str) -> None:
    changes = [
        "trials=24",
        "finalists.count=0",
        "dense_baseline=false",
        "start_from=[]",
        SEARCH,
        f"sampler.name={sampler}",
    ]
    done = mpirun(4, "-c", SCRIPT, str(tmp_path / "run"), "tests.objectives:quick", "", *changes)
    assert done.returncode == 0, done.stderr
    tried = points(RunDirectory.open(tmp_path / "run"))
    assert len(set(tried)) == len(tried) == 24


def make(number: int, score: float, cutoff: float, state: State = State.COMPLETE, violation: float = 0.0) -> Trial:
    return Trial(
        number, Role.PROPOSAL, {"oialr.cutoff": cutoff}, number, 0, state=state, scores=[score], violation=violation
    )


def test_repeats_count_by_their_mean_and_never_by_the_luckiest() -> None:
    trials = [
        make(0, 0.1, 0.5),
        make(1, 0.3, 0.2),
        make(2, 0.9, 0.5),
        make(3, 0.6, 0.5),
        make(4, 0.2, 0.1, violation=1),
    ]
    trials += [make(5, 0.1, 0.1), make(6, 0.0, 0.2, state=State.FAILED)]
    first, second = standings(trials)
    assert [trial.number for trial in first.trials] == [1] and first.scores == [0.3]
    assert [trial.number for trial in second.trials] == [0, 2, 3] and second.scores == pytest.approx([1.6 / 3])
    assert best(trials, 5) == [trials[1], trials[3]]  # the one nearest to the mean stands for its settings


def test_repeats_on_purpose_are_shown_with_their_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three starts, two of them alike; the error is the seed's."""
    changes = ["trials=3", "dense_baseline=false", "score.trainable_weight=0.0", "early_stopping.enabled=false"]
    changes += ["search={oialr.cutoff: {float: [0.1, 0.6]}}"]
    changes += ["start_from=[{oialr.cutoff: 0.5}, {oialr.cutoff: 0.2}, {oialr.cutoff: 0.5}]"]
    done = search.run("vit_digits", changes=changes, out=tmp_path, objective="tests.objectives:quick")
    assert [trial.scores for trial in done.trials()] == [[0.5], [1.2], [2.5]]
    content = status(done)["best"]
    assert content["trials"] == [1] and content["score"] == 1.2
    assert "best 2 (mean of 2 ±" in summary(done)
    assert "best 1.2000 (#1)" in capsys.readouterr().out.splitlines()[-1]
