"""`python -m oialr_hpo.train FILE`: train with given settings, once per seed."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from oialr_hpo import experiment as experiments
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.objective import evaluate
from oialr_hpo.progress import table
from oialr_hpo.search import add_data_dir, environment
from oialr_hpo.staging import stage
from oialr_hpo.status import NOTES
from oialr_hpo.tasks import DataError, Split
from oialr_hpo.trial import Role, RunDirectory, RunDirectoryError, Trial, TrialLog, judge

PRINTED = ("lr", "train_loss", "track_share")  # of the notes, per epoch


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m oialr_hpo.train", description=__doc__.split(": ")[1])
    parser.add_argument("file", metavar="FILE", help="an exported .yaml, or any experiment by name or path")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="default: the file's own seed")
    parser.add_argument(
        "--method",
        choices=["file", "dense", "untuned"],
        default="file",
        help="as the file says, the dense model, or OIALR with the settings from before the search",
    )
    parser.add_argument("--split", choices=["validation", "test"], default="validation", help="what is reported")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the file")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: as the file's trial had)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep every epoch's record there, as a search does")
    add_data_dir(parser)
    options = parser.parse_args(arguments)
    try:
        experiment = choose_method(experiments.load(options.file, options.set).fixed(), options.method)
        if options.stage_dir:
            options.data_dir = stage(experiment, options.data_dir, options.stage_dir)
        else:
            experiments.prepare_data(experiment, options.data_dir)
        log = open_log(options.out, experiment, arguments) if options.out else None
    except (ExperimentError, DataError, RunDirectoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

    evidence = experiment.evidence or {}
    threads = options.threads or evidence.get("threads") or threads_per_worker(1)
    seeds = options.seeds or [experiment.seed]
    trials = [
        train(experiment, seed, threads, options.data_dir, options.split, log, number)
        for number, seed in enumerate(seeds)
    ]
    print(f"\n{report(trials, options.split)}")
    unchanged = options.method == "file" and not options.set and options.split == "validation"
    if unchanged and evidence.get("seed") in seeds:
        print(compare(trials[seeds.index(evidence["seed"])], evidence))
    if any(trial.score is None for trial in trials):
        raise SystemExit(1)


def choose_method(experiment: Experiment, method: str) -> Experiment:
    """The experiment as the file says, dense, or with the settings from before its search."""
    if method == "dense":
        return experiment.with_settings({"method": "dense"})
    if method == "untuned":
        return experiment.with_settings((experiment.evidence or {}).get("untuned", {}))
    return experiment


def open_log(out: Path, experiment: Experiment, arguments: Sequence[str] | None) -> TrialLog:
    """The trial file of a new run directory, which `status` and `figures` read like a search's.

    Raises:
        RunDirectoryError: `out` is used, or cannot be written.
    """
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", "oialr_hpo.train", *given])
    return RunDirectory.create(out, experiment, environment(1, 1) | {"command": command}, resume=False).log(0)


def train(
    experiment: Experiment,
    seed: int,
    threads: int,
    data_dir: Path | None,
    split: Split,
    log: TrialLog | None = None,
    number: int = 0,
) -> Trial:
    """Train once and print a line per epoch; the trial holds the scored metrics."""
    trial = Trial(
        number=number, role=Role.START, settings={}, seed=seed, worker=0, threads=threads, started=time.time()
    )
    if log:
        log.start(trial)
    for record in evaluate(experiment, seed=seed, threads=threads, data_dir=data_dir, split=split):
        trial.epochs.append(record)
        if log:
            log.epoch(trial)
        numbers = {name: value for name, value in record.items() if isinstance(value, (int, float))}
        shown = {name: value for name, value in numbers.items() if name not in NOTES or name in PRINTED}
        figures = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        print(f"seed {seed}  epoch {record['epoch']}/{experiment.training.epochs}  {figures}", flush=True)
    judge(trial, experiment, tested=split == "test")
    trial.seconds = time.time() - trial.started
    if log:
        log.end(trial)
    if trial.reason:
        print(f"seed {seed} failed: {trial.reason}", file=sys.stderr)
    return trial


def report(trials: Sequence[Trial], split: Split) -> str:
    """Mean and standard deviation over the seeds, of the scored epoch and of the best one."""
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        return "no seed reached a score"
    seeds = " ".join(str(trial.seed) for trial in scored)
    header = [f"{split} split, seeds {seeds}", "mean", "std", "best epoch's mean"]
    rows: list[list[Any]] = []
    for name, value in scored[0].metrics.items():
        if isinstance(value, (int, float)) and (name not in NOTES or name in ("train_loss", "seconds")):
            values = [trial.metrics[name] for trial in scored]
            bests = [trial.best_epoch[name] for trial in scored if split == "validation"]
            spread = stdev(values) if len(values) > 1 else None
            rows.append([name, fmean(values), spread, fmean(bests) if bests else None])
    return table(header, rows)


def compare(trial: Trial, evidence: dict[str, Any]) -> str:
    """Whether the trial of the search came out again."""
    before, after = evidence["score"], trial.score
    if before == after:
        return f"the same score as trial {evidence['trial']} of the search: {after}"
    condition = "identical only on the same kind of CPU and versions"
    return f"score {after}, trial {evidence['trial']} of the search had {before}: {condition}"


if __name__ == "__main__":
    main()
