"""Seconds of a trial are of training alone; what came before is kept apart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo import search, status
from oialr_hpo.engines.progress import durations
from oialr_hpo.experiment import load
from oialr_hpo.runs import stopwatch
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import figure
from oialr_hpo.runs.stopwatch import Stopwatch
from oialr_hpo.runs.trial import Role, Trial
from oialr_hpo.training.objective import evaluate

TIMES = st.floats(0, 1000)


def trial() -> Trial:
    return Trial(0, Role.START, {}, seed=0, worker=0)


@given(st.lists(st.tuples(TIMES, TIMES, TIMES), min_size=1, max_size=4), st.booleans())
def test_sessions_add_up_and_training_is_apart(sessions: list[tuple[float, float, float]], cumulative: bool) -> None:
    """Each session waits for its process, sets up, and trains for two epochs, going on from the last one's."""
    now, timed, trained = 50.0, trial(), 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopwatch.time, "monotonic", lambda: now)
        for starting, setup, training in sessions:
            watch = Stopwatch()
            now += starting
            watch.ready()
            now += setup
            for _ in range(2):
                now += training / 2
                trained += training / 2
                record: dict[str, float] = {"seconds": trained} if cumulative else {"setup_seconds": setup}
                watch.tell(record, timed)
                timed.add(record)
                assert record.get("setup_seconds", 0) == pytest.approx(starting + setup, abs=1e-6)
            assert watch.running == pytest.approx(setup + training, abs=1e-6)
            watch.stop(timed)
    assert timed.seconds == pytest.approx(sum(training for *_, training in sessions), abs=1e-6)
    assert timed.setup_seconds == pytest.approx(sum(a + b for a, b, _ in sessions), abs=1e-6)
    assert timed.elapsed == pytest.approx(now - 50, abs=1e-6)


def test_a_session_without_a_record_trained_nothing() -> None:
    timed = trial()
    watch = Stopwatch()
    watch.stop(timed)
    assert timed.seconds == 0 and timed.setup_seconds > 0


def test_an_objective_that_says_nothing_of_it_trains_all_the_time() -> None:
    timed, record = trial(), {"error": 0.5}
    watch = Stopwatch()
    watch.tell(record, timed)
    watch.stop(timed)
    assert record == {"error": 0.5} and timed.seconds > 0 == timed.setup_seconds


def test_a_training_tells_its_own_time_from_its_setting_up() -> None:
    experiment = load("vit_digits", ["training.epochs=2", "data.train_images=64", "model.arguments.depth=1"])
    first, second = evaluate(experiment, seed=0)
    assert 0 < first["seconds"] < second["seconds"] and first["setup_seconds"] == second["setup_seconds"] > 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("prepared")
    return search.run("vit_digits", changes=["trials=3"], out=out, objective="tests.objectives:prepares")


def test_the_first_trial_of_a_process_is_no_slower_for_its_imports(prepared: RunDirectory) -> None:
    """Every trial of this objective sets up for half a second and says so."""
    run = prepared
    for timed in run.trials():
        assert timed.setup_seconds >= 0.5 and timed.seconds >= 0.02
        assert timed.metrics["setup_seconds"] == pytest.approx(timed.setup_seconds)
    told = status.status(run)["best"]
    winner = run.trials()[told["number"]]
    assert (told["seconds"], told["setup_seconds"]) == (winner.seconds, winner.setup_seconds)
    usage = run.usage()
    assert usage.training == pytest.approx(sum(timed.seconds for timed in run.trials()), abs=0.7)
    assert usage.training < usage.held - 3 * 0.5


def test_a_search_in_which_nothing_trained_spent_no_time_training(tmp_path: Path) -> None:
    run = search.run("vit_digits", changes=["trials=2"], out=tmp_path, objective="tests.objectives:fails")
    assert run.usage().training == 0 and all(timed.seconds == 0 for timed in run.trials())


def test_the_time_left_is_that_of_warm_processes() -> None:
    first, second = trial(), trial()
    first.seconds, first.setup_seconds, second.seconds, second.setup_seconds = 1.0, 30.0, 2.0, 0.5
    assert durations([first, second]) == [1.5, 2.5]


def test_counts_are_shown_whole() -> None:
    assert [figure(value) for value in (42684682.0, 139393.4, 12, 0.123456, 9.5e-05, 1e300, None, "auto")] == [
        *("42684682", "139393", "12", "0.1235", "9.5e-05", "1e+300", "None", "auto")
    ]
