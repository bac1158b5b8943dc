"""Which way is better: maximising a metric is minimising its negative, everywhere, and shows the metric itself."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo import search, status
from oialr_hpo.engines.early_stopping import Rungs, curve
from oialr_hpo.experiment import Experiment, ExperimentError, find, load
from oialr_hpo.experiment.score import Goal, Score
from oialr_hpo.export import export
from oialr_hpo.report import charts, page, study
from oialr_hpo.report.facts import Facts
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best, pareto_front
from oialr_hpo.runs.scoring import judge
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.runs.warm_start import with_starts
from oialr_hpo.training.objective import evaluate

VALUES = st.floats(-50, 50).map(lambda value: round(value, 1))
CURVES = st.lists(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=3), min_size=1, max_size=12)
EXPERIMENT = load("vit_digits", ["training.epochs=3", "early_stopping.minimum=1"])
PAIRS = [
    (Score(minimize="m"), Score(maximize="m")),
    (Score(minimize="m", trainable_weight=0.5, epoch="best"), Score(maximize="m", trainable_weight=0.5, epoch="best")),
    (Score(minimize=["n", "m"]), Score(minimize="n", maximize="m")),
    (Score(minimize=["n", "m"], epoch="best"), Score(minimize=["n"], maximize=["m"], epoch="best")),
]


def judged(score: Score, curves: Sequence[Sequence[tuple[float, float]]], sign: int) -> tuple[Experiment, list[Trial]]:
    experiment = EXPERIMENT.model_copy(update={"score": score})
    trials = []
    for number, points in enumerate(curves):
        trial = Trial(number, Role.PROPOSAL, {"schedule.lr": float(number)}, seed=number, worker=0)
        for m, n in points:
            trial.add({"m": sign * m, "n": n, "trainable_percent": abs(10 * n)})
        judge(trial, experiment)
        trials.append(trial)
    return experiment, trials


@pytest.mark.parametrize(("small", "large"), PAIRS)
@given(CURVES)
def test_maximizing_is_minimizing_the_negative(small: Score, large: Score, curves: list) -> None:  # type: ignore[type-arg]
    (experiment, down), (mirrored, up) = judged(small, curves, 1), judged(large, curves, -1)
    index = small.metrics.index("m")
    assert [-trial.scores[index] for trial in up] == [trial.scores[index] for trial in down]
    assert [trial.goals for trial in up] == [trial.goals for trial in down]
    for choose in (lambda trials: best(trials, 99), pareto_front):
        assert [trial.number for trial in choose(up)] == [trial.number for trial in choose(down)]
    assert [trial.best_epoch["epoch"] for trial in up] == [trial.best_epoch["epoch"] for trial in down]
    goals = len(small.goals)
    assert [trial.losses(goals, 3) for trial in up] == [trial.losses(goals, 3) for trial in down]
    verdicts = []
    for judged_by, trials in ((experiment, down), (mirrored, up)):
        rungs = Rungs(judged_by, trials[1:])
        for point in curve(trials[0], judged_by)[:2]:
            rungs.report(0, point)
        verdicts.append(rungs.stops(0))
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("sampler", ["evolution", "tpe"])
def test_a_search_proposes_and_stops_alike_in_either_direction(tmp_path: Path, sampler: str) -> None:
    common = ["trials=14", "finalists.count=0", f"sampler.name={sampler}"]
    small = search.run("vit_digits", changes=common, out=tmp_path / "small", objective="tests.objectives:rewarding")
    changes = [*common, "score.maximize=reward"]
    large = search.run("vit_digits", changes=changes, out=tmp_path / "large", objective="tests.objectives:rewarding")
    pairs = list(zip(small.trials(), large.trials(), strict=True))
    assert all((one.settings, one.state) == (other.settings, other.state) for one, other in pairs)
    assert all(one.score == -other.score for one, other in pairs)  # type: ignore[operator]


@pytest.fixture(scope="module")
def maximized(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    changes = [
        "trials=12",
        "finalists.count=0",
        "score={maximize: reward}",
        "early_stopping.enabled=false",
        "dense_baseline=false",
    ]
    out = tmp_path_factory.mktemp("runs") / "run"
    return search.run("vit_digits", changes=changes, out=out, objective="tests.objectives:rewarding")


def test_all_that_is_shown_has_the_metrics_own_sign(maximized: RunDirectory) -> None:
    rewards = {trial.number: trial.metrics["reward"] for trial in maximized.trials()}
    winner = max(rewards, key=lambda number: (rewards[number], -number))
    told = status.status(maximized)
    assert told["goals"] == {"reward": "maximize"}
    assert (told["best"]["number"], told["best"]["score"]) == (winner, rewards[winner])
    assert f"{rewards[winner]:.4g}" in status.summary(maximized).splitlines()[4]
    evidence = load(str(export(maximized)[0])).evidence
    assert evidence is not None and (evidence["trial"], evidence["score"]) == (winner, rewards[winner])
    derived = study.derive(maximized.trials(), maximized.experiment)
    assert [direction.name for direction in derived.directions] == ["MAXIMIZE"]
    assert derived.best_value == rewards[winner] and derived.best_trial.user_attrs["reward"] == rewards[winner]
    assert all(set(trial.intermediate_values) == {1, 2, 3} for trial in derived.trials)


def test_a_report_of_a_maximized_metric(maximized: RunDirectory) -> None:
    facts = Facts(maximized)
    drawn = {chart.name: chart for chart in charts.draw(facts)}
    (line,) = (trace for trace in drawn["progress"].figure.data if trace.name == "best so far" and trace.showlegend)  # type: ignore[union-attr]
    rewards = [trial.metrics["reward"] for trial in maximized.trials()]
    assert list(line.y) == sorted(line.y) and line.y[-1] == max(rewards)
    assert "Higher is better" in drawn["progress"].caption and "Up and left" in drawn["pareto"].caption
    assert "maximizing reward on the validation split" in page.render(facts, list(drawn.values()))


def test_the_best_of_a_maximized_search_starts_another_one(maximized: RunDirectory) -> None:
    (winner,) = best(maximized.trials())
    start = with_starts(load("vit_digits"), [maximized.path]).starts()[0]
    assert start == winner.settings


def test_patience_and_the_best_epoch_follow_the_direction() -> None:
    changes = [
        *("training.epochs=4", "training.patience=1", "schedule.lr=3e-3", "model.arguments.depth=1"),
        *("data.train_images=200", "score.epoch=best", "score.trainable_weight=0"),
    ]
    pair = [load("vit_digits", [*changes, score]) for score in ("score.minimize=error", "score.maximize=top1")]
    errors = [[record["error"] for record in evaluate(experiment, seed=0)] for experiment in pair]
    assert errors[0] == errors[1]


def test_runs_of_earlier_versions_minimize(tmp_path: Path, maximized: RunDirectory) -> None:
    earlier = maximized.experiment.model_copy(update={"score": Score(minimize="reward")})
    environment = {"workers": 1, "command": "test", "commit": None, "python": "3", "packages": {}}
    run = RunDirectory.create(tmp_path, earlier, environment, resume=False)
    with open(tmp_path / "trials" / "rank-0000.jsonl", "w") as file:
        for path in maximized.path.glob("trials/*.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                event.pop("signs", None)
                file.write(json.dumps(event) + "\n")
    assert best(run.trials())[0].score == min(trial.metrics["reward"] for trial in maximized.trials())


@pytest.mark.parametrize(
    ("changes", "goals"),
    [
        (["score.maximize=top1"], [("top1", "maximize")]),
        (["score.minimize=loss"], [("loss", "minimize")]),
        (["score.maximize=own", "score.trainable_weight=0"], [("own", "maximize")]),
        (["score.minimize=own"], [("own", "minimize")]),
        (
            ["score={minimize: [loss], maximize: [top1, top5]}"],
            [("loss", "minimize"), ("top1", "maximize"), ("top5", "maximize")],
        ),
        (
            ["score.trainable_weight=0", "score.maximize=top1", "score.minimize=trainable_percent"],
            [("trainable_percent", "minimize"), ("top1", "maximize")],
        ),
        (["score={maximize: [top1]}"], [("top1", "maximize")]),
    ],
)
def test_the_goals_that_a_user_names_are_the_only_ones(changes: list[str], goals: list[tuple[str, str]]) -> None:
    assert [tuple(goal) for goal in load("vit_digits", changes).score.goals] == goals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("score.minimize=top1", "score.minimize: top1 is better when larger; write score: {maximize: top1}"),
        ("score.maximize=error", "score.maximize: error is better when smaller; write score: {minimize: error}"),
        ("score.maximize=trainable_percent", "write score: {minimize: trainable_percent}"),
        ("score.maximize=seconds", "write score: {minimize: seconds}"),
        ("score={minimize: [error, top1, top5]}", "write score: {minimize: error, maximize: [top1, top5]}"),
        ("score={minimize: loss, maximize: error}", "write score: {minimize: [loss, error]}"),
        ("score={minimize: top1, maximize: top1}", "score: top1 is named twice; minimize or maximize it, once"),
        ("score={minimize: [error, error]}", "score: error is named twice; minimize or maximize it, once"),
        ("score={}", "score: name what counts, such as minimize: error or maximize: top1"),
        ("score.maximize=null", "score: name what counts"),
        ("score.minimize=3", "score.minimize: name a metric, such as error, or a list of metrics, not 3"),
        ("score.minimize=[]", "score.minimize: name a metric, such as error, or a list of metrics, not []"),
        ("score.maximise=top1", "score.maximise: unknown key; did you mean 'maximize'?"),
        ("search.score.minimize={choices: [error, loss]}", "search.score.minimize: no such setting"),
    ],
)
def test_a_goal_that_cannot_be_meant_is_refused_with_the_right_line(change: str, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load("vit_digits", [change])
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_forecasts_are_better_when_closer() -> None:
    with pytest.raises(ExperimentError, match="write score: {minimize: mse}"):
        load("autoformer_quick", ["score.maximize=mse"])


def test_a_file_that_extends_another_replaces_its_goals(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(Path(find("vit_digits")).read_text())
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\nscore: {maximize: top1}\n")
    score = load(str(child)).score
    assert score.goals == [Goal("top1", "maximize")] and score.trainable_weight == 0.1
    (tmp_path / "grandchild.yaml").write_text("extends: child.yaml\nscore: {minimize: loss}\n")
    assert load(str(tmp_path / "grandchild.yaml")).score.goals == [Goal("loss", "minimize")]


def test_settings_changed_from_python_replace_the_goals() -> None:
    assert load("vit_digits").with_settings({"score.maximize": "top1"}).score.goals == [Goal("top1", "maximize")]


@pytest.mark.parametrize("size", [1.0, 1e-6, 4e7, 1e12])
def test_what_samplers_see_is_in_order_whatever_the_size_of_the_metric(size: float) -> None:
    """Complete before stopped early before infeasible before failed, for both directions."""
    for direction in ("minimize", "maximize"):
        score = Score.model_validate({direction: "m"})
        experiment = EXPERIMENT.model_copy(update={"score": score})
        sign, trials = score.goals[0].sign, []
        for number, (value, state, violation, epoch) in enumerate(
            [(1, State.COMPLETE, 0, 3), (2, State.COMPLETE, 0, 3), (1, State.PRUNED, 0, 2), (2, State.PRUNED, 0, 2)]
            + [(0, State.PRUNED, 0, 1), (0, State.COMPLETE, 1e-3, 3), (0, State.COMPLETE, 1e12, 3)]
            + [(0, State.FAILED, 0, 3)]
        ):
            trial = Trial(number, Role.PROPOSAL, {}, seed=0, worker=0)
            trial.add({"epoch": epoch, "m": sign * value * size})
            judge(trial, experiment)
            trial.state, trial.violation = state, violation
            trials.append(trial)
        losses = [trial.losses(1, 3)[0] for trial in trials]
        assert losses == sorted(losses) and len(set(losses)) == len(losses)


def test_a_constrained_metric_that_is_no_number_is_not_kept() -> None:
    experiment = load("vit_digits", ["constraints={top1: {min: 90}}"])
    trial = Trial(0, Role.PROPOSAL, {}, seed=0, worker=0)
    trial.add({"epoch": 4, "error": 0.1, "trainable_percent": 10.0, "top1": float("nan")})
    judge(trial, experiment)
    assert (trial.state, trial.reason) == (State.FAILED, "top1, which has a constraint, is nan at epoch 4")
