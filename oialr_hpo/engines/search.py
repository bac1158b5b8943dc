"""A search from its options to its run directory."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from oialr_hpo.engines import launchers, ranks
from oialr_hpo.engines.engine import ImpossibleChoice, choose_engine, load_engine
from oialr_hpo.engines.plan import Plan
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.objective import name_of
from oialr_hpo.extension import importing
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State


def run(
    experiment: str | Experiment,
    *,
    changes: Iterable[str] = (),
    out: Path | None = None,
    engine: str | None = None,
    jobs: int = 1,
    ranks_per_trial: int = 1,
    resume: bool = False,
    retry: Iterable[State] = (),
    start_from: Iterable[Path] = (),
    data_dir: Path | None = None,
    stage_dir: Path | None = None,
    objective: str | Callable[..., Any] | None = None,
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
        data_dir: where data sets lie.
        stage_dir: on the local disk of every node, where the data is copied first, once per node.
        objective: a function of a module or script, or its name as `package.module:function`, that yields the
            records of a trial, see `oialr_hpo.objective.evaluate`; by default that of the experiment, or of the search
            that `out` holds. It is looked at first, and the default rehearsed, see `oialr_hpo.engines.preflight`.
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
    if script := importing():
        raise ImpossibleChoice(
            f"{script} starts a search when it is imported, as training processes do for its objective; "
            "call search.run below if __name__ == '__main__':"
        )
    started = ranks.join() if engine is None or load_engine(engine).over_mpi else launchers.size() or 2
    chosen = choose_engine(engine, started, jobs, ranks_per_trial)
    again = frozenset(retry)
    if again and not resume:
        raise ImpossibleChoice("--retry runs trials of a search again that has ended: add --resume")
    named = name_of(objective) if objective else None
    path = out or Path("runs") / (Path(experiment).stem if isinstance(experiment, str) else called(experiment))
    one_thread = threadpool_limits(1, "blas")  # for proposals more would only spin, on CPUs that trials need
    with one_thread, ExitStack() as held, stop or StopRequest() as stopping:
        plan = Plan(
            experiment=experiment,
            changes=changes,
            path=path,
            engine=chosen.__module__.rpartition(".")[2],
            suggested=chosen.sampler,
            ranks=started,
            jobs=jobs,
            ranks_per_trial=ranks_per_trial,
            resume=resume,
            retry=again,
            start_from=start_from,
            data_dir=data_dir,
            stage_dir=stage_dir,
            objective=named,
            stop=stopping,
            held=held,
        )
        return chosen().run(plan)


def called(experiment: Experiment) -> str:
    """What the run directory of an experiment without a file is called."""
    return experiment.task or experiment.objective.rpartition(":")[2]
