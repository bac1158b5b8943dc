"""`python -m oialr_hpo.train FILE`: train with given settings, once per seed."""

import sys
from collections.abc import Sequence

from oialr_hpo import experiment as experiments
from oialr_hpo import loggers
from oialr_hpo.commands import INTERRUPTED, ExperimentName, Parser, command, natural, path, positive, written
from oialr_hpo.engines.staging import stage
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.experiment.metrics import MEANING
from oialr_hpo.files import check_writable
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import say
from oialr_hpo.runs.trial import State
from oialr_hpo.train import objective
from oialr_hpo.train.printing import compare, report
from oialr_hpo.train.repetition import choose_experiment, choose_method, repeat, train
from oialr_hpo.train.session import Session

__all__ = ["choose_experiment", "choose_method", "main", "report", "train"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    read = parser()
    options = read.parse_args(arguments)
    if options.resume and not options.out:
        read.error("--resume goes on with what --out DIR holds; name it")
    if options.retry and not options.resume:
        read.error("--retry runs trainings again that --out DIR holds: add --resume")
    if options.weights and len(options.seeds or [0]) > 1:
        read.error("--weights keeps one network; give one seed")
    if options.threads and options.threads > experiments.MOST_THREADS:
        read.error(f"--threads {options.threads} is more than {experiments.MOST_THREADS}")
    chosen = choose_experiment(options.file, options.trial, options.set)
    experiment = choose_method(chosen.fixed(), options.method)
    own = experiment.objective != experiments.OBJECTIVE
    if own:
        asked = {"split": options.split != "validation", "weights": options.weights}
        objective.check(experiment, [name for name, wanted in asked.items() if wanted])
    if options.weights:
        check_writable(options.weights)
    if options.out:
        RunDirectory(options.out).check_free(options.resume)
        loggers.load(chosen.loggers)
    if options.stage_dir:
        options.data_dir = stage(experiment, options.data_dir, options.stage_dir)
    else:
        experiments.prepare_data(experiment, options.data_dir)
    evidence = experiment.evidence or {}
    threads = options.threads or evidence.get("threads") or threads_per_worker(1)
    seeds = list(dict.fromkeys(options.seeds or [experiment.seed]))
    if not options.resume and not own:
        from oialr_hpo.training.rehearsal import rehearse

        list(rehearse(experiment, seed=seeds[0], threads=threads, data_dir=options.data_dir, split=options.split))
    session = None
    if options.out:
        heard = experiment.model_copy(update={"loggers": chosen.loggers})
        session = Session.open(options.out, heard, seeds, arguments, options.resume, options.retry)
    before = {options.weights} if options.weights and options.weights.exists() else set()
    kept = not (session and session.has_ended(seeds[0]))
    trials = repeat(experiment, seeds, threads, options.data_dir, options.split, session, options.weights)
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


def parser() -> Parser:
    parser = Parser(
        "train", __doc__.split(": ")[1], "runs/vit_digits/best/vit_digits-1.yaml --seeds 0 1 2 --split test"
    )
    parser.epilog = MEANING
    parser.add_argument(
        "file",
        type=ExperimentName(),
        metavar="FILE|RUN",
        help="an exported .yaml, any experiment by name or path, or the run directory of a search",
    )
    parser.add_argument(
        "--trial", type=natural, metavar="N", help="of a run directory, by its number (default: the best)"
    )
    parser.add_argument("--seeds", type=natural, nargs="+", metavar="S", help="default: the file's own seed")
    parser.add_argument(
        "--method",
        choices=["file", "dense", "untuned"],
        default="file",
        help="file: as the file says, dense: the dense model, untuned: the method with its settings from before the "
        "search (default: file)",
    )
    parser.add_argument(
        "--split",
        choices=["validation", "test"],
        default="validation",
        help="what is reported: validation, by which a search selects, or test, for final results",
    )
    parser.add_changes()
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: as the file's trial had)")
    parser.add_argument("--out", type=path, metavar="DIR", help="keep every epoch's record there, as a search does")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_retry()
    parser.add_volume("every number of an epoch")
    parser.add_argument(
        "--weights", type=path, metavar="FILE", help="keep the trained network there, as safetensors; one seed only"
    )
    parser.add_data_directories()
    return parser
