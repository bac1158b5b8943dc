"""`python -m oialr_hpo.train FILE`: train with given settings, once per seed."""

import math
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import INTERRUPTED, Parser, command, natural, path, positive, written
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.staging import stage
from oialr_hpo.engines.worker import FAILURES, threads_per_worker
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.metrics import MEANING, METRICS, shown_metrics
from oialr_hpo.files import check_writable, discard
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.log import TrialLog
from oialr_hpo.runs.printing import figure, say, table
from oialr_hpo.runs.record import RecordError
from oialr_hpo.runs.scoring import judge
from oialr_hpo.runs.stopwatch import Stopwatch
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.search import environment
from oialr_hpo.tasks import Split
from oialr_hpo.training.faults import Fault, explain
from oialr_hpo.training.objective import evaluate

PRINTED = [metric.name for metric in METRICS.values() if "epoch" in metric.shown]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("train", __doc__.split(": ")[1])
    parser.epilog = MEANING
    parser.add_argument("file", metavar="FILE", help="an exported .yaml, or any experiment by name or path")
    parser.add_argument("--seeds", type=natural, nargs="+", metavar="S", help="default: the file's own seed")
    parser.add_argument(
        "--method",
        choices=["file", "dense", "untuned"],
        default="file",
        help="as the file says, the dense model, or OIALR with the settings from before the search",
    )
    parser.add_argument("--split", choices=["validation", "test"], default="validation", help="what is reported")
    parser.add_changes()
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: as the file's trial had)")
    parser.add_argument("--out", type=path, metavar="DIR", help="keep every epoch's record there, as a search does")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_retry()
    parser.add_argument(
        "--weights", type=path, metavar="FILE", help="keep the trained network there, as safetensors; one seed only"
    )
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    if options.resume and not options.out:
        parser.error("--resume goes on with what --out DIR holds; name it")
    if options.retry and not options.resume:
        parser.error("--retry runs trainings again that --out DIR holds: add --resume")
    if options.weights and len(options.seeds or [0]) > 1:
        parser.error("--weights keeps one network; give one seed")
    if options.threads and options.threads > experiments.MOST_THREADS:
        parser.error(f"--threads {options.threads} is more than {experiments.MOST_THREADS}")
    experiment = choose_method(experiments.load(options.file, options.set).fixed(), options.method)
    if options.weights:
        check_writable(options.weights)
    if options.out:
        RunDirectory(options.out).check_free(options.resume)
    if options.stage_dir:
        options.data_dir = stage(experiment, options.data_dir, options.stage_dir)
    else:
        experiments.prepare_data(experiment, options.data_dir)
    evidence = experiment.evidence or {}
    threads = options.threads or evidence.get("threads") or threads_per_worker(1)
    seeds = list(dict.fromkeys(options.seeds or [experiment.seed]))
    if not options.resume:
        from oialr_hpo.training.rehearsal import rehearse

        list(rehearse(experiment, seed=seeds[0], threads=threads, data_dir=options.data_dir, split=options.split))
    session = Session.open(options.out, experiment, seeds, arguments, options.resume) if options.out else None
    if session:
        session.trials = [trial.again() if trial.state.value in options.retry else trial for trial in session.trials]
    before = {options.weights} if options.weights and options.weights.exists() else set()
    kept = not session or not any(trial.seed == seeds[0] and trial.finished for trial in session.trials)
    trials = []
    with session or nullcontext():
        for seed in seeds:
            trials.append(train(experiment, seed, threads, options.data_dir, options.split, session, options.weights))
            if session and session.stop.received:
                break
    if session is None and trials[-1].state is State.INTERRUPTED:
        raise SystemExit(1)
    if len(trials) < len(seeds) or not all(trial.finished for trial in trials):
        say("interrupted; the same command with --resume goes on", "stderr")
        raise SystemExit(INTERRUPTED)
    say(f"\n{report(trials, options.split)}")
    unchanged = options.method == "file" and not options.set and options.split == "validation"
    if unchanged and evidence.get("seed") in seeds and evidence.get("score") is not None:
        print(compare(trials[seeds.index(evidence["seed"])], evidence))
    if options.weights and not kept:
        print(f"{options.weights} is not written: the training had ended before; train anew for it", file=sys.stderr)
    elif options.weights and trials[0].state is State.COMPLETE:
        print(written([options.weights], before))
    if any(trial.score is None for trial in trials):
        raise SystemExit(1)


def choose_method(experiment: Experiment, method: str) -> Experiment:
    """The experiment as the file says, dense, or with the settings from before its search."""
    if method == "dense":
        return experiment.with_settings({"method": "dense"})
    if method == "untuned":
        return experiment.with_settings((experiment.evidence or {}).get("untuned", {}))
    return experiment


@dataclass
class Session:
    """A run directory that trainings are kept in, and the signals that interrupt them."""

    run: RunDirectory
    stop: StopRequest
    log: TrialLog
    trials: list[Trial]

    @classmethod
    def open(
        cls,
        out: Path,
        experiment: Experiment,
        seeds: Iterable[int],
        arguments: Sequence[str] | None,
        resume: bool,
    ) -> "Session":
        """A run directory which `status` and `figures` read like a search's, of as many trials as seeds.

        Raises:
            RunDirectoryError: `out` is used and `resume` is false, its trainings are others, or it cannot be written.
        """
        given = sys.argv[1:] if arguments is None else arguments
        command = shlex.join(["python", "-m", "oialr_hpo.train", *given])
        known = {trial.seed for trial in RunDirectory(out).trials()} | set(seeds)
        experiment = experiment.model_copy(update={"trials": len(known)})
        run = RunDirectory.create(out, experiment, environment(1, 1) | {"command": command}, resume)
        return cls(run, StopRequest(), run.log(0), run.trials())

    def __enter__(self) -> None:
        self.stop.__enter__()

    def __exit__(self, *_: object) -> None:
        self.stop.__exit__()
        self.log.close()
        self.run.release()

    def trial(self, seed: int, threads: int) -> Trial:
        """The training with this seed, begun or new."""
        for trial in self.trials:
            if trial.seed == seed:
                trial.attempt += 1
                return trial
        number = max((trial.number for trial in self.trials), default=-1) + 1
        self.trials.append(new_trial(number, seed, threads))
        return self.trials[-1]


def new_trial(number: int, seed: int, threads: int) -> Trial:
    return Trial(number=number, role=Role.START, settings={}, seed=seed, worker=0, threads=threads)


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
    records = evaluate(
        experiment,
        seed=seed,
        threads=threads,
        data_dir=data_dir,
        split=split,
        checkpoint=checkpoint,
        weights=weights,
    )
    try:
        for record in records:
            watch.tell(record, trial)
            trial.add(record)
            for line in lines(record, experiment.training.epochs):
                say(f"seed {seed}  {line}")
            if session:
                session.log.epoch(trial)
                if session.stop.received:
                    trial.state = State.INTERRUPTED
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


def lines(record: Mapping[str, Any], epochs: int) -> list[str]:
    """An epoch's record in words; what was measured on the test split has a line of its own."""
    numbers = {name: record[name] for name in shown_metrics(record, "trials")}
    progress = {name: record[name] for name in PRINTED if name in record}
    validated = record.get("validation")
    shown = progress | (numbers if validated is None else validated)
    found = [f"epoch {record['epoch']}/{epochs}  {figures(shown)}"]
    if validated is None:
        return found
    tested = {name: value for name, value in numbers.items() if name not in PRINTED}
    return [*found, f"test split  {figures(tested)}"]


def figures(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {figure(value)}" for name, value in numbers.items())


def report(trials: Sequence[Trial], split: Split) -> str:
    """Mean and standard deviation over the seeds, of the scored epoch and of the best one."""
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        return "no seed reached a score"
    seeds = " ".join(str(trial.seed) for trial in scored)
    header = [f"{split} split, seeds {seeds}", "mean", "std", "best epoch's mean"]
    rows: list[list[Any]] = []
    for name in shown_metrics(scored[0].metrics, "seeds"):
        values = [trial.metrics.get(name, math.nan) for trial in scored]
        bests = [trial.best_epoch.get(name, math.nan) for trial in scored if split == "validation"]
        spread = stdev(values) if len(values) > 1 else None
        rows.append([name, fmean(values), spread, fmean(bests) if bests else None])
    return table(header, rows)


def compare(trial: Trial, evidence: dict[str, Any]) -> str:
    """Whether the trial of the search came out again."""
    before, after = evidence["score"], trial.score
    if before == after:
        return f"the same score as trial {evidence.get('trial', 'unknown')} of the search: {after}"
    condition = "identical only on the same kind of CPU and versions"
    return f"score {after}, trial {evidence.get('trial', 'unknown')} of the search had {before}: {condition}"


if __name__ == "__main__":
    main()
