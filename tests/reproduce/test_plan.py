"""Comparisons in a given time: what fits, and that they end in it."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo import reproduce
from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.engines.search import run
from oialr_hpo.experiment import load, strict_yaml
from oialr_hpo.mistake import Mistake
from oialr_hpo.reproduce import runner
from oialr_hpo.reproduce.choosing import compare
from oialr_hpo.reproduce.comparison import METHODS, Comparison, Row
from oialr_hpo.reproduce.plan import MARGIN, STEPS, Pace, Part, Plan, TimeBox
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.training import pace

PACES = {"vit_cifar": {"oialr": Pace(start=5, setup=1, dense=40, small=30, evaluation=2)}}


@cache
def compared(budget: float) -> list[tuple[Comparison, list[str]]]:
    return [compare("vit_cifar", METHODS, None, [], budget)]


@settings(max_examples=25, deadline=None)
@given(seconds=st.floats(1, 1e8), workers=st.integers(1, 64), seeds=st.integers(1, 5))
def test_the_largest_scale_that_fits_is_planned(seconds: float, workers: int, seeds: int) -> None:
    plan = Plan.largest(seconds, seeds, workers, PACES, compared)
    takes = plan.seconds(compared(plan.budget), seeds)
    assert takes <= MARGIN * seconds or plan.budget == 1 / STEPS
    larger = Plan(plan.budget + 1 / STEPS, workers, PACES)
    assert plan.budget == 1 or larger.seconds(compared(larger.budget), seeds) > MARGIN * seconds
    epochs = compared(plan.budget)[0][0].experiment.training.epochs
    parts = {part.folder: part for part in plan.parts(compared(plan.budget), seeds)}
    assert parts["vit_cifar/dense-test"].longest == 1 + 42 * epochs
    assert [*parts][2:5] == [f"vit_cifar/{name}" for name in ("search-oialr", "tuned-test", "tuned-again")]
    assert sum(part.seconds for part in parts.values()) == pytest.approx(takes)


def test_what_another_comparison_found_is_only_trained(tmp_path: Path) -> None:
    """And an experiment without settings to tune only once, whatever its rows are called."""
    run(load("vit_digits", ["trials=2"]), out=tmp_path / "search-oialr", objective="tests.objectives:by_method")
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text(strict_yaml.dump(load("vit_digits").fixed().dump()), encoding="utf-8")
    plan = Plan(1.0, 2, dict.fromkeys(("vit_digits", "fixed"), PACES["vit_cifar"]))
    for name, tuned_in, folder in (("vit_digits", tmp_path, "tuned-test"), (str(fixed), None, "untuned-test")):
        comparison, rows = compare(name, METHODS, [Row(None, tuned=True)], [], 1.0, tuned_in)
        assert [part.folder for part in plan.parts([(comparison, rows)], 3)] == [f"{comparison.name}/{folder}"]


def test_a_search_has_its_share_of_the_time_and_a_training_all(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, now = load("vit_cifar"), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    parts = [
        Part("vit_cifar/search-oialr", 8, start=5, longest=10, seconds=60, searches=True),
        Part("vit_cifar/tuned-test", 3, start=5, longest=10, seconds=40),
    ]
    box = TimeBox(Deadline(200), parts)
    searching, training = (box.limited(experiment, part.folder) for part in parts)
    assert searching and (searching.time_limit, searching.at_time_limit) == ("110s", "finish")
    assert training and (training.time_limit, training.at_time_limit) == ("200s", "interrupt")
    now[0] = 195.0
    assert not box.over and box.limited(experiment, "vit_cifar/tuned-test") is None


def test_a_search_that_is_short_of_time_makes_do_with_fewer_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.Runner._run, "__defaults__", ("tests.objectives:slow_by_method",))
    instant = Pace(start=0, setup=0, dense=0.1, small=0.1, evaluation=0)
    Plan(1.0, 2, {"vgg_digits": {"rigl": instant}}).save(tmp_path / "plan.json")
    command = ["vgg_digits", "--methods", "rigl,tuned", "--seeds", "7", "--set", "trials=16", "--for", "6s"]
    for _ in range(5):  # a busy machine has started no process by then
        try:
            reproduce.main([*command, "--out", str(tmp_path)])
            break
        except SystemExit as ended:
            assert ended.code == 75 and "the time is over; the same command goes on" in capsys.readouterr().err
    searched = RunDirectory.open(tmp_path / "vgg_digits/search-rigl")
    ended = len(searched.trials())
    assert searched.concluded == f"its share of the time was over after {ended} of 16 trials" and 0 < ended < 16
    assert f"| {ended} trials of" in (tmp_path / "table.md").read_text()


def test_steps_are_timed_and_a_scale_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a few digits; nothing of what was timed stays but the plan."""
    monkeypatch.setattr(reproduce, "rehearse", lambda *_: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one CPU: nothing is tried beside one at a time
    small = ["model.arguments.depth=1", "data.train_images=160", "training.epochs=2"]
    options = [text for change in small for text in ("--set", change)]
    command = ["vit_digits", *options, "--methods", "dense", "--seeds", "7", "--for", "1m"]
    reproduce.main([*command, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "vit_digits: 2 of 12 epochs" in printed and "an epoch's steps: dense" in printed
    assert {path.name for path in tmp_path.iterdir()} >= {"plan.json", "table.md", "vit_digits"}
    assert not (tmp_path / "pace").exists()
    assert Plan.load(tmp_path / "plan.json").paces["vit_digits"]["oialr"].start > 0


@pytest.mark.parametrize("method", ["oialr", "cuttlefish", "dense"])
def test_every_pace_is_measured(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SECONDS", 0.01)
    experiment = load("vit_digits", [f"method={method}", "model.arguments.depth=1", "data.train_images=160"])
    (record,) = pace.measure(experiment, seed=0)
    seconds = {key: value for key, value in record.items() if key.endswith("seconds")}
    assert len(seconds) == 5 and min(seconds.values()) > 0 and record["gpus"] >= 0
    assert seconds["seconds"] >= seconds["setup_seconds"]


@pytest.mark.parametrize("content", ["{", "[]", '{"budget": 1, "workers": 2, "paces": {"a": {"b": {"setup": 1}}}}'])
def test_a_damaged_plan_is_said_in_a_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(Mistake, match="damaged; remove it"):
        Plan.load(tmp_path / "plan.json")


def test_a_plan_is_not_taken_for_one_of_another_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made_up: None
) -> None:
    Plan(0.25, 2, PACES).save(tmp_path / "plan.json")
    with pytest.raises(SystemExit, match="2"):
        reproduce.main(["vit_cifar", "--for", "1h", "--budget", "0.5", "--out", str(tmp_path)])
    assert "plan.json plans with a budget of 0.25; leave out --budget" in capsys.readouterr().err


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan(0.25, 4, PACES)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_a_time_is_a_duration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        reproduce.main(["vit_digits", "--for", "soon"])
    assert "'soon' is not a duration; write 90s, 30m, 4h or 1d" in capsys.readouterr().err
