"""`python -m oialr_hpo.search NAME`: search the settings of an experiment.

Under `mpirun -n N` every rank is a worker and Propulate's islands propose; in one process Optuna proposes and
`--jobs` workers train.
"""

import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from oialr_hpo import experiment as experiments
from oialr_hpo import samplers
from oialr_hpo.commands import INTERRUPTED, Parser, command, natural, path, positive
from oialr_hpo.engines import launchers, preflight
from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.staging import stage
from oialr_hpo.engines.worker import OBJECTIVE, Search, threads_per_worker
from oialr_hpo.experiment import SAMPLERS, Experiment
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import say
from oialr_hpo.runs.summary import summary
from oialr_hpo.runs.trial import State
from oialr_hpo.runs.warm_start import with_starts

PACKAGES = ("oialr_hpo", "torch", "torchvision", "timm", "propulate", "mpi4py", "optuna", "numpy")


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
        probe=options.probe,
        data_dir=options.data_dir,
        stage_dir=options.stage_dir,
        stop=stop,
    )
    if launchers.first():
        say(f"\n{summary(finished)}")
        states = [trial.state for trial in finished.trials()]
        if ended := ended_by_time(finished, states):
            say(ended, "stderr")
        if State.INTERRUPTED in states or (stop.received and len(states) < finished.experiment.trials):
            say("interrupted; the same command with --resume goes on", "stderr")
            raise SystemExit(INTERRUPTED)
        if states and set(states) <= {State.FAILED, State.OUT_OF_MEMORY}:
            say(f"error: every trial failed; {finished.path / 'logs'} has what they printed", "stderr")
            raise SystemExit(1)


def run(
    experiment: str | Experiment,
    *,
    changes: Iterable[str] = (),
    out: Path | None = None,
    engine: Literal["propulate", "optuna"] | None = None,
    jobs: int = 1,
    ranks_per_trial: int = 1,
    resume: bool = False,
    retry: Iterable[State] = (),
    start_from: Iterable[Path] = (),
    probe: bool = False,
    data_dir: Path | None = None,
    stage_dir: Path | None = None,
    objective: str = OBJECTIVE,
    stop: StopRequest | None = None,
) -> RunDirectory:
    """Search the settings of an experiment; under mpirun every rank calls this.

    Args:
        experiment: one that ships with the package, a path to a YAML file, or what `experiment.load` made of either.
        changes: `KEY=VALUE` strings, as `--set` takes them, for an experiment given by name.
        out: run directory, `runs/NAME` by default.
        engine: `propulate` (two MPI ranks or more) or `optuna` (one process); by default what fits.
        jobs: worker processes of the Optuna engine.
        ranks_per_trial: MPI ranks that train each trial together, data-parallel.
        resume: go on with the search that `out` holds.
        retry: with `resume`, run the trials again that ended so: `State.FAILED`, `State.OUT_OF_MEMORY`.
        start_from: exported files and run directories whose settings are tried first, see `warm_start.with_starts`.
        probe: whether a short dense training first narrows the search, see `oialr_hpo.probe`; `out` keeps its file. A
            script that asks for it needs `if __name__ == "__main__":`, since multiprocessing imports it once more.
        data_dir: where data sets lie.
        stage_dir: on the local disk of every node, where the data is copied first, once per node.
        objective: `package.module:function` that yields the records of a trial, see `oialr_hpo.objective.evaluate`.
            A new search that has this one rehearses a step first, see `oialr_hpo.engines.preflight`.
        stop: knows afterwards whether a signal ended the search.

    Returns:
        the run directory, whose `trials()` are the result.

    Raises:
        ExperimentError: the experiment or a change is wrong.
        DataError: the data is missing.
        RunDirectoryError: the run directory is used, or cannot be.
        ImpossibleChoice: the engine cannot run here.
        LaunchError: the ranks that a launcher started are no world of MPI.
    """
    ranks = launchers.size() or 2 if engine == "optuna" else launchers.join()
    engine = choose_engine(engine, ranks, jobs, ranks_per_trial)
    again = frozenset(retry)
    if again and not resume:
        raise ImpossibleChoice("--retry runs trials of a search again that has ended: add --resume")

    path = out or Path("runs") / (Path(experiment).stem if isinstance(experiment, str) else experiment.task)

    def check() -> Experiment:
        RunDirectory(path).check_free(resume)
        checked = experiments.load(experiment, changes) if isinstance(experiment, str) else experiment
        checked = with_sampler(with_starts(checked, start_from), engine)
        prepare_data = experiments.find_data if stage_dir else experiments.prepare_data
        prepare_data(checked, data_dir)
        return checked

    def prepare(checked: Experiment, data_dir: Path | None, threads: int) -> Search:
        deadline = Deadline(experiments.seconds(checked.time_limit)) if checked.time_limit else None
        if objective == OBJECTIVE and not resume:
            first.append(preflight.rehearse(checked, threads, data_dir, stop=stopping))
            held.callback(first[0].close)
        if probe:
            from oialr_hpo.probing import probed

            checked = probed(checked, path / "probe.yaml", threads_per_worker(1), data_dir, resume)
        until = time.time() + deadline.left if deadline else None
        where = environment(ranks, jobs, ranks_per_trial) | {"deadline": until}
        directory = RunDirectory.create(path, checked, where, resume)
        held.callback(directory.release)
        if resume and sum(t.finished and t.state not in again for t in directory.trials()) >= checked.trials:
            print(f"{path}: all {checked.trials} trials have ended; --trials N adds more", file=sys.stderr)
        return Search(checked, directory, absolute(data_dir), deadline, objective, ranks_per_trial, again)

    first: list[TrainingProcess] = []
    one_thread = threadpool_limits(1, "blas")  # for proposals more would only spin, on CPUs that trials need
    with one_thread, ExitStack() as held, stop or StopRequest() as stopping:
        if engine == "optuna":
            from oialr_hpo.engines import optuna

            checked = check()
            staged = stage(checked, data_dir, stage_dir) if stage_dir else data_dir
            search = prepare(checked, staged, threads_per_worker(jobs))
            optuna.run(search, jobs, stopping, *first)
        else:
            from oialr_hpo.engines import mpi, propulate

            data_dir, stage_dir = mpi.on_first_rank(lambda: (absolute(data_dir), absolute(stage_dir)))
            checked = mpi.on_first_rank(check)
            staged = mpi.on_every_node(lambda: stage(checked, data_dir, stage_dir)) if stage_dir else data_dir
            threads = threads_per_worker(mpi.local_rank()[1])
            search = mpi.on_first_rank(lambda: prepare(checked, staged, threads))
            try:
                propulate.run(search, stopping, *first)
            except BaseException:
                mpi.abort_all("the search itself failed")
    return search.run


def absolute(directory: Path | None) -> Path | None:
    """A path that all ranks understand alike, wherever each works."""
    return directory.absolute() if directory else None


def ended_by_time(run: RunDirectory, states: Sequence[State]) -> str | None:
    """What became of a search whose time limit ended it before its budget of trials was spent."""
    experiment, deadline = run.experiment, run.environment.get("deadline")
    ended = sum(state not in (State.RUNNING, State.INTERRUPTED) for state in states)
    if deadline is None or time.time() < deadline or ended >= experiment.trials:
        return None
    return (
        f"the time limit of {experiment.time_limit} ended the search after {ended} of {experiment.trials} trials; "
        f"--resume goes on for as long again, or with another --time-limit"
    )


def with_sampler(experiment: Experiment, engine: Literal["propulate", "optuna"]) -> Experiment:
    """The experiment with a sampler's name: the given one, or what the engine and the number of goals suggest.

    Raises:
        SamplerError: the sampler cannot propose here.
    """
    one_goal = "evolution" if engine == "propulate" else "tpe"
    suggested = one_goal if len(experiment.score.goals) == 1 else "nsga2"
    named = experiment.with_settings({"sampler.name": experiment.sampler.name or suggested})
    place = samplers.Place(rank=0, workers=1, trials=1, seed=0, goals=len(experiment.score.metrics))
    samplers.make_propagator(named.sampler, named.space, place)
    return named


class ImpossibleChoice(Mistake):
    """Options that cannot go together."""


def choose_engine(
    engine: Literal["propulate", "optuna"] | None, ranks: int, jobs: int, ranks_per_trial: int = 1
) -> Literal["propulate", "optuna"]:
    """The engine for a number of MPI ranks.

    Raises:
        ImpossibleChoice: the wanted engine cannot run there.
    """
    if engine == "propulate" and ranks == 1:
        raise ImpossibleChoice("--engine propulate needs two MPI ranks or more: mpirun -n 4 python -m oialr_hpo.search")
    if engine == "optuna" and ranks > 1:
        raise ImpossibleChoice(f"--engine optuna runs in one process: leave out mpirun and use --jobs {ranks}")
    if ranks > 1 and jobs > 1:
        raise ImpossibleChoice(f"--jobs is for one process; under mpirun the {ranks} ranks are the workers")
    if ranks % ranks_per_trial:
        raise ImpossibleChoice(f"--ranks-per-trial {ranks_per_trial} does not divide the {ranks} MPI ranks")
    return engine or ("propulate" if ranks > 1 else "optuna")


def environment(ranks: int, jobs: int, ranks_per_trial: int = 1) -> dict[str, Any]:
    """Where and with what a search runs."""
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    return {
        "command": shlex.join([*launcher, "python", *_program(), *sys.argv[1:]]),
        "workers": max(ranks // ranks_per_trial, jobs),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def parser() -> Parser:
    parser = Parser("search", __doc__.split("\n")[0])
    parser.add_argument("name", metavar="NAME", help="an experiment that ships with the package, or a .yaml path")
    parser.add_argument("--engine", choices=["propulate", "optuna"], help="default: what fits")
    parser.add_argument("--jobs", type=positive, default=1, metavar="K", help="worker processes without mpirun")
    parser.add_argument(
        "--ranks-per-trial", type=positive, default=1, metavar="K", help="MPI ranks that train each trial together"
    )
    parser.add_argument("--trials", type=positive, metavar="N", help="total over all workers")
    parser.add_argument("--time-limit", metavar="T", help="90s, 30m, 4h: no trial starts later")
    parser.add_argument("--trial-timeout", metavar="T", help="a trial that runs longer has failed")
    parser.add_room("--sampler", SAMPLERS, default="evolution over MPI, else tpe")
    parser.add_argument("--out", type=path, metavar="DIR", help="run directory (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the search in the run directory")
    parser.add_retry()
    parser.add_argument(
        "--start-from",
        type=path,
        action="append",
        default=[],
        metavar="FILE|RUN",
        help="try first what an exported .yaml says, or the best of another run",
    )
    parser.add_argument("--probe", action="store_true", help="narrow the search first, see oialr_hpo.probe")
    parser.add_argument("--seed", type=natural, metavar="S")
    parser.add_changes()
    parser.add_data_directories()
    return parser


def _program() -> list[str]:
    """What this Python runs: `-m` and a module, or a script."""
    spec = sys.modules["__main__"].__spec__
    return ["-m", spec.name.removesuffix(".__main__")] if spec else sys.argv[:1]


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    main()
