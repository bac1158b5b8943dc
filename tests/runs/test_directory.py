import math
from pathlib import Path

import pytest

from oialr_hpo.experiment import Experiment, load
from oialr_hpo.experiment.score import Bound, Score
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.scoring import goals, judge, violation
from oialr_hpo.runs.trial import Role, State, Trial

ENVIRONMENT = {"workers": 1, "command": "test", "commit": None, "python": "3", "packages": {}}


@pytest.fixture
def experiment() -> Experiment:
    return load("vit_digits", ["score.trainable_weight=0.0", "constraints={trainable_percent: {max: 20}}"])


def make(number: int, error: float, share: float = 10.0, role: Role = Role.PROPOSAL) -> Trial:
    trial = Trial(number=number, role=role, settings={"a": number}, seed=number, worker=0)
    trial.add({"error": 0.9, "trainable_percent": 100.0, "ranks": {"layer": 8}})
    trial.add({"error": error, "trainable_percent": share, "ranks": {"layer": 8}})
    return trial


def test_the_score_weighs_the_trainable_share() -> None:
    record = {"error": 0.2, "trainable_percent": 30}
    assert goals(record, Score(minimize="error", trainable_weight=0.5)) == [0.35]
    assert goals(record, Score(minimize=["error", "trainable_percent"])) == [0.2, 30]


def test_violations_are_relative_and_add_up() -> None:
    bounds = {"trainable_percent": Bound(max=10.0), "top1": Bound(min=80.0)}
    assert violation({"trainable_percent": 15, "top1": 60}, bounds) == pytest.approx(0.75)
    assert violation({"trainable_percent": 10, "top1": 80}, bounds) == 0


def test_samplers_see_feasible_before_infeasible_before_failed(experiment: Experiment) -> None:
    trials = [make(0, 0.5), *(make(n, 0.1) for n in (1, 2, 3)), make(4, 0.1, share=30.0), make(5, 0.1, share=60.0)]
    trials.append(make(6, math.nan))
    for trial in trials:
        judge(trial, experiment)
    for trial, error, epoch in zip(trials[1:4], (0.3, 0.1, 0.2), (6, 3, 3), strict=True):
        trial.state, trial.scores, trial.epochs[-1]["epoch"] = State.PRUNED, [error], epoch
    assert [trial.state for trial in trials[4:]] == [State.COMPLETE] * 2 + [State.FAILED]
    assert trials[6].reason == "the score is nan at epoch 2"
    losses = [trial.losses(goals=1, epochs=12) for trial in trials]
    assert losses == sorted(losses) and all(math.isfinite(loss) for (loss,) in losses)
    assert best(trials, 5) == [trials[0]]


def test_the_dense_baseline_is_never_the_best(experiment: Experiment) -> None:
    trials = [make(0, 0.01, role=Role.DENSE), make(1, 0.5)]
    for trial in trials:
        judge(trial, experiment)
    assert best(trials) == [trials[1]]


def test_a_metric_that_does_not_exist_names_those_that_do(experiment: Experiment) -> None:
    trial = make(0, 0.1)
    judge(trial, experiment.with_settings({"score.minimize": "accuracy"}))
    assert trial.state is State.FAILED
    assert trial.reason == "no metric 'accuracy' to score; known: error, trainable_percent, epoch"


def test_an_epoch_without_the_metric_is_not_the_best(experiment: Experiment) -> None:
    trial = make(0, 0.1)
    del trial.epochs[0]["error"]
    judge(trial, experiment)
    assert trial.state is State.COMPLETE and trial.scores == [0.1] and trial.best_epoch == trial.epochs[1]


def test_the_files_give_the_trials_again(tmp_path: Path, experiment: Experiment) -> None:
    run = RunDirectory.create(tmp_path / "run", experiment, ENVIRONMENT, resume=False)
    written = [make(number, 0.1 * number) for number in range(4)]
    for trial in written:
        trial.settings = experiment.starts()[0]
    for worker in (0, 1):
        log = run.log(worker)
        for trial in written[worker::2]:
            log.start(trial)
            records, trial.epochs = trial.epochs, []
            for record in records:
                trial.add(record)
                log.epoch(trial)
            judge(trial, experiment)
            log.end(trial)
        log.close()
    for copy in ("rank-0000.bak.jsonl", "rank-0001 (1).jsonl", "rank-0000-conflict.jsonl"):
        (tmp_path / "run" / "trials" / copy).write_bytes(log.path.read_bytes())
    assert RunDirectory.open(tmp_path / "run").trials() == written


def test_a_torn_line_costs_only_itself(tmp_path: Path, experiment: Experiment) -> None:
    run = RunDirectory.create(tmp_path, experiment, ENVIRONMENT, resume=False)
    log = run.log(0)
    log.start(make(0, 0.1))
    log.close()
    with open(log.path, "ab") as file:
        file.write(b'{"event": "end", "number": 0, "sta')
    assert [trial.state for trial in run.trials()] == [State.RUNNING]
    log = run.log(0)
    log.start(make(1, 0.1))
    log.close()
    assert [trial.number for trial in run.trials()] == [0, 1]


def test_a_used_directory_needs_resume_and_the_same_experiment(tmp_path: Path, experiment: Experiment) -> None:
    RunDirectory.create(tmp_path, experiment, ENVIRONMENT, resume=False)
    with pytest.raises(RunDirectoryError, match="already holds a search; add --resume"):
        RunDirectory.create(tmp_path, experiment, ENVIRONMENT, resume=False)
    more = experiment.model_copy(update={"trials": 500})
    assert RunDirectory.create(tmp_path, more, ENVIRONMENT, resume=True).experiment.trials == 500
    other = experiment.with_settings({"training.epochs": 99})
    with pytest.raises(RunDirectoryError, match="training.epochs was 12, now 99"):
        RunDirectory.create(tmp_path, other, ENVIRONMENT, resume=True)
