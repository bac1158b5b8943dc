"""A training over seeds and methods; each seed's is a trial."""

import time
import traceback
from collections.abc import Generator, Iterable
from contextlib import nullcontext, suppress
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.engines.worker import FAILURES
from oialr_hpo.experiment import Experiment
from oialr_hpo.files import discard
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.exported import content, find_trial
from oialr_hpo.runs.printing import say, tell
from oialr_hpo.runs.record import RecordError, plain
from oialr_hpo.runs.scoring import judge
from oialr_hpo.runs.stopwatch import Stopwatch
from oialr_hpo.runs.trial import State, Trial
from oialr_hpo.tasks import Split
from oialr_hpo.train import objective
from oialr_hpo.train.printing import lines
from oialr_hpo.train.session import Session, new_trial
from oialr_hpo.training.faults import Fault, explain


def choose_experiment(name: str, trial: int | None, changes: Iterable[str]) -> Experiment:
    """The experiment of a file or a shipped one, or what a trial of a search trained, by its number (None: the best).

    Raises:
        Mistake: there is no such experiment, search or trial, or a change does not fit it.
    """
    path = Path(name).expanduser()
    if trial is None and not RunDirectory(path).used:
        return experiments.load(name, changes)
    run = RunDirectory.open(path)
    found = find_trial(run, trial)
    return experiments.changed(content(run, found), changes, f"trial {found.number} of {run.path}")


def choose_method(experiment: Experiment, method: str) -> Experiment:
    """The experiment as the file says, dense, or with the settings from before its search."""
    if method == "dense":
        return experiment.with_settings({"method": "dense"})
    if method == "untuned":
        return experiment.with_settings((experiment.evidence or {}).get("untuned", {}))
    return experiment


def repeat(
    experiment: Experiment,
    seeds: Iterable[int],
    threads: int,
    data_dir: Path | None,
    split: Split,
    session: Session | None = None,
    weights: Path | None = None,
) -> list[Trial]:
    """Train once per seed, see `train`; a signal to the session ends it with the trial that it interrupts."""
    trials = []
    with session or nullcontext():
        for seed in seeds:
            trials.append(train(experiment, seed, threads, data_dir, split, session, weights))
            if session and session.stop.received:
                break
    return trials


def train(
    experiment: Experiment,
    seed: int,
    threads: int,
    data_dir: Path | None,
    split: Split,
    session: Session | None = None,
    weights: Path | None = None,
) -> Trial:
    """Train once and print a line per epoch; the trial holds the scored metrics.

    In a session it goes on from where an earlier one was interrupted, and may be interrupted itself. The file `weights`
    gets the trained network.
    """
    trial = session.trial(seed, threads) if session else new_trial(0, seed, threads)
    if session and trial.finished:
        return trial
    trial.state, trial.reason, trial.started, watch = State.RUNNING, None, time.time(), Stopwatch()
    checkpoint = session.run.checkpoint(trial.number) if session else None
    if session:
        session.log.start(trial)
    records = objective.call(
        experiment,
        threads,
        seed=seed,
        worker=0,
        data_dir=data_dir,
        split=split,
        checkpoint=checkpoint,
        weights=weights,
    )
    try:
        for record in map(plain, records):
            record.setdefault("epoch", len(trial.epochs) + 1)
            watch.tell(record, trial)
            trial.add(record)
            for line in lines(record, experiment.training.epochs):
                tell(f"seed {seed}  {line}")
            if session:
                session.log.epoch(trial)
                if session.stop.received:
                    trial.state = State.INTERRUPTED
                    if isinstance(records, Generator):
                        with suppress(StopIteration):
                            records.send(session.stop.received)  # the training loop saves a checkpoint
                    break
        if trial.state is State.RUNNING:
            judge(trial, experiment, tested=split == "test")
    except (Exception, SystemExit) as error:
        if isinstance(error, (Mistake, BrokenPipeError)) and not isinstance(error, Fault):
            raise
        if not isinstance(error, (Fault, RecordError, ArithmeticError)):
            traceback.print_exc()
        outcome, trial.reason = explain(error)
        trial.state = FAILURES[outcome]
    watch.stop(trial)
    if session:
        session.log.end(trial)
    if trial.finished and checkpoint:
        discard(checkpoint)
    if trial.reason:
        say(f"seed {seed} {trial.state.value.replace('_', ' ')}: {trial.reason}", "stderr")
    return trial
