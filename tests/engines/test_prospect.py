"""A search may end once the rest of it is unlikely to better the winner (`stop_when`)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oialr_hpo import experiment as experiments
from oialr_hpo import samplers, search
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.experiment.space import Space, parse_line
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import Role, State
from oialr_hpo.status import summary
from tests.engines.test_finalists import CHANGES, noisy, searched
from tests.engines.test_propulate import mpirun, needs_mpi

SPACE = Space({key: parse_line({"float": [0.0, 1.0]}) for key in "ab"}, lambda key: 0.5)
EVERYWHERE = [{"a": a / 6, "b": b / 6} for a in range(7) for b in range(7)]
OWN = """
import random
def objective(settings, seed, **given):
    noise = random.Random(seed).gauss(0, 0.05)
    yield {"error": 0.3 * (settings.model["x"] - 0.5) ** 2 + noise}
"""
FILE = """
objective: own:objective
model: {x: 0.1}
search: {model.x: {float: [0.0, 1.0]}}
score: {minimize: error}
training: {epochs: 1, batch_size: 1}
schedule: {lr: 1.0}
trials: 40
stop_when: 0.5
"""


def chance(losses: list[float], noise: float, left: int) -> float:
    winner = int(np.argmin(losses))
    return samplers.chance_of_improvement(SPACE, EVERYWHERE, losses, winner, noise, left)


def bowl(at: float) -> list[float]:
    return [(each["a"] - at) ** 2 + (each["b"] - at) ** 2 for each in EVERYWHERE]


def test_the_chance_is_small_where_noise_hides_what_is_left_and_grows_with_trials() -> None:
    assert chance(bowl(0.5), noise=0.05, left=20) < 0.05
    rugged = np.random.default_rng(1).random(len(EVERYWHERE)).tolist()
    few, many = (chance(rugged, noise=0.02, left=left) for left in (2, 60))
    assert few < many and many > 0.5
    assert chance(rugged, noise=0.02, left=60) == many, "equal questions have equal answers"


def test_equal_scores_promise_nothing() -> None:
    assert chance(len(EVERYWHERE) * [1.0], noise=0.1, left=30) < 0.2


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load("vit_digits", [*CHANGES, "trials=60", "search={oialr.cutoff: {float: [1e-6, 0.999999]}}"])


def test_a_search_ends_early_with_all_its_finalists(experiment: Experiment) -> None:
    trials = searched(experiment.with_settings({"stop_when": 0.9}), noisy)
    finalists = [trial for trial in trials if trial.role is Role.FINALIST]
    assert len(trials) < 60 and len(finalists) == 15
    early = [trial for trial in finalists if trial.number < min(45, len(trials) - 12)]
    assert len(early) == 3, "those that tell the noise"
    assert {*range(len(trials))} == {trial.number for trial in trials}


def test_what_promises_much_is_gone_on_with(experiment: Experiment) -> None:
    def falling(trial: Any) -> float:
        return float(np.random.default_rng(int(1e6 * trial.settings["oialr.cutoff"])).random())

    assert len(searched(experiment.with_settings({"stop_when": 0.01}), falling)) == 60


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"finalists.count": 0}, "stop_when: needs 3 trainings of finalists, which tell the noise"),
        ({"search": "{seed: {int: [0, 99]}}", "start_from": "[]"}, "do not search the seed, or leave it out"),
        ({"trials": 8}, "set trials to 12 or more"),
        ({"score.minimize": ["error", "trainable_percent"]}, "stop_when: with several goals there is no winner"),
    ],
)
def test_where_it_cannot_be_told(changes: dict[str, Any], says: str) -> None:
    given = [*CHANGES, "stop_when=0.2", *(f"{key}={value}" for key, value in changes.items())]
    with pytest.raises(Mistake, match=says.replace("(", r"\(")):
        load("vit_digits", given)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def check_ended_early(run: RunDirectory) -> None:
    trials = run.trials()
    assert len(trials) < 40 and all(trial.state is State.COMPLETE for trial in trials)
    assert run.concluded is not None and run.concluded.startswith("ended early: ")
    assert run.concluded in summary(run) and "resume with" not in summary(run)


def test_a_search_says_that_it_ended_early_and_may_be_gone_on_with(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = search.run(experiments.load("own.yaml"), out=own / "run")
    check_ended_early(run)
    said = capsys.readouterr().out
    assert "40 trials" in said and "fewer once a better one is less likely than 50%" in said
    assert f"{run.concluded}\n" in said
    before = len(run.trials())
    resumed = search.run(experiments.load("own.yaml", ["stop_when=null"]), out=own / "run", resume=True)
    assert len(resumed.trials()) == 40 > before and resumed.concluded is None


@needs_mpi
def test_over_mpi(own: Path) -> None:
    done = mpirun(2, "-m", "oialr_hpo.search", str(own / "own.yaml"), "--out", str(own / "run"))
    assert done.returncode == 0, done.stderr
    assert "ended early: " in done.stdout
    check_ended_early(RunDirectory.open(own / "run"))
