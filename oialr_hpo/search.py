"""`python -m oialr_hpo.search NAME`: search the settings of an experiment.

Under `mpirun -n N` every rank is a worker and Propulate's islands propose; in one process Optuna proposes and
`--jobs` workers train.
"""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from oialr_hpo.commands import INTERRUPTED, ExperimentName, Parser, command, natural, path, positive
from oialr_hpo.engines import launchers
from oialr_hpo.engines.engine import ENGINES, ImpossibleChoice
from oialr_hpo.engines.search import run
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import OBJECTIVE, SAMPLERS
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import say, tell
from oialr_hpo.runs.summary import summary
from oialr_hpo.runs.trial import State

__all__ = ["OBJECTIVE", "ImpossibleChoice", "main", "run"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    stop = StopRequest()
    given = {
        "trials": options.trials,
        "time_limit": options.time_limit,
        "trial_timeout": options.trial_timeout,
        "seed": options.seed,
        "sampler.name": options.sampler,
    }
    changes = [*options.set, *(f"{key}={value}" for key, value in given.items() if value is not None)]
    finished = run(
        options.name,
        changes=changes,
        out=options.out,
        engine=options.engine,
        jobs=options.jobs,
        ranks_per_trial=options.ranks_per_trial,
        resume=options.resume,
        retry=map(State, options.retry),
        start_from=options.start_from,
        data_dir=options.data_dir,
        stage_dir=options.stage_dir,
        stop=stop,
    )
    if launchers.first():
        say(f"\n{summary(finished)}")
        states = [trial.state for trial in finished.trials()]
        if ended := ended_by_time(finished, states):
            say(ended, "stderr")
        left = State.PAUSED in states or len(states) < finished.experiment.trials
        if State.INTERRUPTED in states or (stop.received and left):
            say("interrupted; the same command with --resume goes on", "stderr")
            raise SystemExit(INTERRUPTED)
        if State.COMPLETE in states:
            tell(f"\nnext: {next_steps(finished.path)}")
        if states and set(states) <= {State.FAILED, State.OUT_OF_MEMORY}:
            say(f"error: every trial failed; {finished.path / 'logs'} has what they printed", "stderr")
            raise SystemExit(1)


def next_steps(path: Path) -> str:
    """What a finished search is good for."""
    run = shlex.quote(str(path))
    return (
        f"python -m oialr_hpo.report {run}    # the search as a page\n"
        f"      python -m oialr_hpo.export {run}    # the best settings as a file that trains again"
    )


def ended_by_time(run: RunDirectory, states: Sequence[State]) -> str | None:
    """What became of a search whose time limit ended it before its budget of trials was spent."""
    experiment, deadline = run.experiment, run.environment.get("deadline")
    ended = sum(state.final for state in states)
    if deadline is None or time.time() < deadline or ended >= experiment.trials:
        return None
    return (
        f"the time limit of {experiment.time_limit} ended the search after {ended} of {experiment.trials} trials; "
        f"--resume goes on for as long again, or with another --time-limit"
    )


def parser() -> Parser:
    parser = Parser("search", __doc__.split("\n")[0], "vit_digits --jobs 2 --trials 40 --set training.epochs=6")
    parser.add_argument(
        "name", type=ExperimentName(), metavar="NAME", help="an experiment that ships with the package, or a .yaml path"
    )
    parser.add_room(
        "--engine",
        ENGINES,
        default="what fits",
        about="propulate: islands over MPI ranks, optuna: workers of one process",
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="K", help="worker processes without mpirun")
    parser.add_argument(
        "--ranks-per-trial", type=positive, default=1, metavar="K", help="MPI ranks that train each trial together"
    )
    parser.add_argument("--trials", type=positive, metavar="N", help="total over all workers")
    parser.add_argument("--time-limit", metavar="T", help="90s, 30m, 4h: no trial starts later")
    parser.add_argument("--trial-timeout", metavar="T", help="a trial that runs longer has failed")
    parser.add_room(
        "--sampler",
        SAMPLERS,
        default="evolution over MPI, else tpe",
        about="evolution: for many workers, tpe: for few, nsga2: for several goals, gp: a Gaussian process, cmaes and "
        "cmaes-optuna: CMA-ES by Propulate and by the package cmaes, pso: a particle swarm, random: to compare with",
    )
    parser.add_argument("--out", type=path, metavar="DIR", help="run directory (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the search in the run directory")
    parser.add_retry()
    parser.add_argument(
        "--start-from",
        type=path,
        action="append",
        default=[],
        metavar="FILE|RUN",
        help="try first what an exported .yaml says, or the best of another run; ranges without a prior believe in it",
    )
    parser.add_argument("--seed", type=natural, metavar="S", help="of the proposals and, with its number, of a trial")
    parser.add_changes()
    parser.add_volume("every epoch of every trial too")
    parser.add_data_directories()
    return parser


if __name__ == "__main__":
    main()
