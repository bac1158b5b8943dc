"""Trial files with steps of the clock, of older versions, and damaged: what is read from them."""

import dataclasses
import json
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from oialr_hpo.engines.desk import Desk
from oialr_hpo.experiment import load
from oialr_hpo.export import export
from oialr_hpo.mistake import Mistake
from oialr_hpo.report import study, study_file
from oialr_hpo.report.write import write as write_report
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import State
from oialr_hpo.status import status, summary, write_csv
from tests.engines.test_search import run

HOUR = 3600.0
FIXTURES = [HealthCheck.function_scoped_fixture]
ONCE = [Phase.generate]  # shrinking takes minutes


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Two workers, two sessions, failures; the second worker's last trial was cut off, and the first one ended it."""
    out = tmp_path_factory.mktemp("clocks") / "run"
    run(out, "trials=9", objective="tests.objectives:hazards")
    done = run(out, "trials=13", objective="tests.objectives:hazards", resume=True)
    first, second = events(done, 0), events(done, 1)
    (end,) = [event for event in second if event["event"] == "end"][-1:]
    second.remove(end)
    second = second[: second.index(next(e for e in second if e.get("number") == end["number"])) + 1]
    again = dict(second[-1], worker=0, attempt=2, time=second[-1]["time"] + 1, clock=first[-1]["clock"] + 1)
    first += [again, end | {"attempt": 2, "time": again["time"] + 1, "clock": again["clock"] + 1}]
    store(done, 0, first)
    store(done, 1, second)
    return done


def events(done: RunDirectory, worker: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file_of(done, worker).read_text().splitlines()]


def store(done: RunDirectory, worker: int, lines: list[dict[str, Any]]) -> None:
    file_of(done, worker).write_text("".join(json.dumps(line) + "\n" for line in lines))


def file_of(done: RunDirectory, worker: int) -> Path:
    return done.path / "trials" / f"rank-{worker:04d}.jsonl"


def copied(
    done: RunDirectory, to: Path, change: Callable[[int, list[dict[str, Any]]], list[dict[str, Any]]]
) -> RunDirectory:
    """The run with changed events."""
    (to / "trials").mkdir(parents=True, exist_ok=True)
    for name in ("experiment.yaml", "environment.yaml"):
        (to / name).write_bytes((done.path / name).read_bytes())
    copy = RunDirectory(to)
    for worker in (0, 1):
        store(copy, worker, change(worker, events(done, worker)))
    return copy


def what_counts(done: RunDirectory) -> Any:
    """States, what a resumed search would run, and the best."""
    trials = done.trials()
    desk = Desk(done.experiment.model_copy(update={"trials": 20}), 1, trials)
    tickets = [(ticket.number, ticket.settings) for ticket in iter(desk.next, None)]
    return [(trial.number, trial.state, trial.scores) for trial in trials], tickets, [t.number for t in best(trials, 9)]


def test_an_attempt_that_ended_in_another_file_is_the_trial(finished: RunDirectory) -> None:
    trials = finished.trials()
    assert [trial.number for trial in trials] == list(range(13)) and all(trial.finished for trial in trials)
    assert [trial.attempt for trial in trials].count(2) == 1


@settings(deadline=None, max_examples=25, suppress_health_check=FIXTURES, phases=ONCE, derandomize=True)
@given(st.lists(st.floats(-30 * HOUR, 30 * HOUR), min_size=2, max_size=2), st.integers(0, 30), st.booleans())
def test_a_clock_that_steps_changes_nothing(
    finished: RunDirectory, tmp_path: Path, shifts: list[float], step_at: int, older: bool
) -> None:
    """From some event on in each file; what older versions wrote has no attempts and no monotonic clock."""

    def shift(worker: int, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        late = [event | {"time": event["time"] + shifts[worker] * (i >= step_at)} for i, event in enumerate(lines)]
        return [without(event, "attempt", "clock") for event in late] if older else late

    shifted = copied(finished, tmp_path / "run", shift)
    assert what_counts(shifted) == what_counts(finished)
    usage, before = shifted.usage(), finished.usage()
    assert min(usage.elapsed, usage.held, usage.training) >= 0
    assert usage.utilization is not None and 0 <= usage.utilization <= 1
    if not older:
        assert dataclasses.astuple(usage) == pytest.approx(dataclasses.astuple(before), abs=1e-3)
    assert all(span.seconds >= 0 for span in shifted.spans())
    assert "-" not in summary(shifted).splitlines()[0].removeprefix(str(shifted.path))


def without(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}


def test_the_oldest_files_are_read(finished: RunDirectory, tmp_path: Path) -> None:
    """One score a trial, null where it failed; no worker was noted as held."""

    def older(_: int, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [without(event, "attempt", "clock") for event in lines if event["event"] not in ("open", "close")]
        return [
            without(event, "scores") | {"score": (event["scores"] or [None])[0]} if event["event"] == "end" else event
            for event in kept
        ]

    old = copied(finished, tmp_path / "run", older)
    assert what_counts(old) == what_counts(finished)
    assert old.usage().utilization is None and summary(old)
    resumed = run(old.path, "trials=14", objective="tests.objectives:hazards", resume=True)
    assert [trial.number for trial in resumed.trials()] == list(range(14))


DAMAGES = [
    b"", b"\0" * 300, b"{", b"[]", b"null", b"7", b'{"event": 3}', b'{"event": "other", "time": 1}', b"\xff\xfe\n",
    b'{"event": "start", "time": 1}', b'{"event": "end", "time": 1, "number": 0}', b"[" * 100_000,
    b'{"event": "open", "time": "now"}', b'{"event": "epoch", "time": 1, "number": -1}',
    b'{"event": "start", "time": 1, "number": 900, "role": "king", "settings": {}, "seed": 0, "worker": 0}',
    b'{"event": "end", "time": 1, "number": 1, "state": "complete", "scores": [null], "metrics": {}}',
    b'{"event": "end", "time": 1, "number": 1, "state": "complete", "scores": []}',
    b'{"event": "epoch", "time": 1, "number": 1, "epoch": "last"}',
]  # fmt: skip


def test_damaged_lines_are_left_out_and_said_once(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = copied(finished, tmp_path / "run", lambda _, lines: lines)
    file = file_of(damaged, 1)
    lines = file.read_bytes().splitlines(keepends=True)
    for damage in DAMAGES:
        lines.insert(random.Random(len(lines)).randrange(len(lines)), damage + b"\n")
    file.write_bytes(b"".join(lines) + b'{"event": "end", "numb')
    opened = RunDirectory.open(damaged.path)
    assert what_counts(opened) == what_counts(finished)
    assert summary(opened) and status(opened)["trials"] == status(finished)["trials"]
    said = capsys.readouterr().err.splitlines()
    count = len(DAMAGES)  # the empty line is none, the second \n of one makes an empty one; the last is cut off
    assert said == [f"{damaged.path / 'trials'}: cut off or damaged lines left out: {count} of rank-0001.jsonl"]
    resumed = run(damaged.path, "trials=14", objective="tests.objectives:hazards", resume=True)
    assert [trial.number for trial in resumed.trials()] == list(range(14))


VALUES = st.one_of(
    st.none(), st.booleans(), st.sampled_from([-5, 3, 1000, 2**40]), st.floats(), st.text(max_size=3),
    st.sampled_from([[], {}, {"layer": None}, [1.0, "x"]]),
)  # fmt: skip


@settings(deadline=None, max_examples=15, suppress_health_check=FIXTURES, phases=ONCE, derandomize=True)
@given(st.data())
def test_any_value_of_the_wrong_kind_is_survived(finished: RunDirectory, tmp_path: Path, data: st.DataObject) -> None:
    def change(_: int, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for _i in range(3):
            event = data.draw(st.sampled_from(lines))
            event = event.get(data.draw(st.sampled_from(["", "metrics", "settings"]))) or event
            key = data.draw(st.sampled_from(sorted(event)))
            if data.draw(st.booleans()):
                event[key] = data.draw(VALUES)
            else:
                del event[key]
        return lines

    damaged = copied(finished, tmp_path / "run", change)
    assert json.dumps(status(damaged), allow_nan=True) and summary(damaged)
    with open(tmp_path / "table.csv", "w") as file:
        write_csv(damaged, file)
    study.derive(damaged.trials(), damaged.experiment)
    with suppress(RunDirectoryError):  # such a setting is refused on resume
        damaged.check_fits(damaged.experiment)
        desk = Desk(damaged.experiment.model_copy(update={"trials": 20}), 1, damaged.trials())
        assert list(iter(desk.next, None)) is not None
    damaged.usage()
    with suppress(Mistake):  # a setting of the best may not be one any more
        export(damaged, 3)


def test_metrics_that_are_no_numbers_are_shown_as_such(tmp_path: Path) -> None:
    """The score is measured; what else was, is NaN or infinite in some trials, and null in the files."""
    done = run(tmp_path / "run", "trials=5", objective="tests.objectives:beyond_numbers")
    trials = done.trials()
    assert all(trial.state is State.COMPLETE for trial in trials)
    assert '"NaN"' not in json.dumps(status(done)) and summary(done)
    write_csv(done, sys.stdout)
    (path,) = export(done)
    assert load(str(path))
    assert write_report(done)
    study_file.write(done, tmp_path / "study.log")
    resumed = run(done.path, "trials=6", objective="tests.objectives:beyond_numbers", resume=True)
    assert [t for t in resumed.trials() if t.number < 5] == trials


def test_a_score_that_is_no_number_in_any_epoch_is_resumed(tmp_path: Path) -> None:
    """With early stopping, which looks at every epoch of earlier trials."""
    changes = ["early_stopping.enabled=true", "early_stopping.minimum=1"]
    run(tmp_path, "trials=6", *changes, objective="tests.objectives:diverging")
    trials = run(tmp_path, "trials=9", *changes, objective="tests.objectives:diverging", resume=True).trials()
    assert len(trials) == 9 and {trial.state for trial in trials} >= {State.FAILED}
    assert write_report(RunDirectory.open(tmp_path))


def test_a_constraint_that_cannot_be_told_fails_the_trial(tmp_path: Path) -> None:
    changes = ["trials=2", "dense_baseline=false", "constraints={total_percent: {max: 20}}"]
    trials = run(tmp_path, *changes, objective="tests.objectives:beyond_numbers").trials()
    assert [trial.state for trial in trials] == 2 * [State.FAILED]
    assert trials[0].reason == "total_percent, which has a constraint, is nan at epoch 3"
