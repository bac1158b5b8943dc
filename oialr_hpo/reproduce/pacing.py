"""How fast trainings of a comparison are here, by how many of them run at a time."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean

from oialr_hpo.engines import launchers, search
from oialr_hpo.engines.ranks import join, on_first_rank
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.methods import name_of
from oialr_hpo.mistake import Mistake
from oialr_hpo.reproduce.plan import Chosen, Pace, Paces, Plan
from oialr_hpo.reproduce.variants import repeated
from oialr_hpo.runs.printing import Volume, tell, volume
from oialr_hpo.runs.trial import State

MEASURE = "oialr_hpo.training.pace:measure"
ON_A_GPU = (1, 2, 4)
"""How many trainings at a time are tried on each."""


def planned(
    compared: Callable[[float], Chosen],
    seeds: int,
    seconds: float,
    budget: float | None,
    jobs: int | None,
    out: Path,
    data_dir: Path | None,
) -> Plan:
    """The plan that lies in a directory, or else the largest that fits into the time, which is written there.

    Args:
        compared: what is compared with a budget.
        seeds: of the final trainings of each row.
        budget: that is to be planned with, whether it fits or not.
        jobs: worker processes without mpirun; None: what allows the largest scale.

    Raises:
        ExperimentError: no step of a training can be made.
        Mistake: the plan is damaged, or of another budget.
    """
    file = out / "plan.json"
    if on_first_rank(file.exists):
        plan = on_first_rank(lambda: Plan.load(file))
        if budget not in (None, plan.budget):
            raise Mistake(f"{file} plans with a budget of {plan.budget:g}; leave out --budget, or choose another --out")
        return plan
    tell("timing steps of the trainings, to choose a scale")
    experiments = {
        comparison.name: {name_of(each.method): each for each in (comparison.experiment, *comparison.others.values())}
        for comparison, _ in compared(1.0)
    }
    timed = _timed(experiments, jobs, out / "pace", data_dir)

    def choose() -> Plan:
        plans = [
            Plan(budget, workers, paces) if budget else Plan.largest(seconds, seeds, workers, paces, compared)
            for workers, paces in timed.items()
        ]
        best = max(plans, key=lambda plan: (plan.budget, -plan.seconds(compared(plan.budget), seeds)))
        best.save(file)
        return best

    return on_first_rank(choose)


def _timed(
    experiments: Mapping[str, Mapping[str, Experiment]], jobs: int | None, scratch: Path, data_dir: Path | None
) -> dict[int, Paces]:
    """By the number of workers: that of `jobs` or of MPI; or else one with all CPUs and one for each CPU, or so many on
    each GPU as `ON_A_GPU` says."""
    gpus = 0

    def at_once(jobs: int) -> Paces:
        nonlocal gpus
        paces: dict[str, dict[str, Pace]] = {name: {} for name in experiments}
        for name, by_method in experiments.items():
            for method, experiment in by_method.items():
                paces[name][method], gpus = _pace(experiment, jobs, scratch / f"{name}-{method}-{jobs}", data_dir)
        return paces

    before = volume.set(Volume.QUIET)
    on_first_rank(lambda: shutil.rmtree(scratch, ignore_errors=True))
    try:
        if launchers.launched():
            return {join(): at_once(1)}
        timed = {jobs or 1: at_once(jobs or 1)}
        if not jobs:
            cpus = len(os.sched_getaffinity(0))
            more = {min(gpus * each, cpus) for each in ON_A_GPU} if gpus else {cpus}
            for workers in sorted(more - timed.keys()):
                try:
                    timed[workers] = at_once(workers)
                except ExperimentError:  # the memory is too small for so many
                    break
        return timed
    finally:
        volume.reset(before)
        on_first_rank(lambda: shutil.rmtree(scratch, ignore_errors=True))


def _pace(experiment: Experiment, jobs: int, directory: Path, data_dir: Path | None) -> tuple[Pace, int]:
    """That of all workers together, on average, and how many GPUs they see."""
    workers = join() if launchers.launched() else jobs
    scored = type(experiment.score).model_validate({"minimize": "dense_seconds"})
    timed = repeated(experiment, range(workers)).model_copy(update={"score": scored})
    began = time.monotonic()
    run = search.run(timed, out=directory, jobs=jobs, data_dir=data_dir, objective=MEASURE)
    elapsed = time.monotonic() - began
    done = [trial.metrics for trial in run.trials() if trial.state is State.COMPLETE]
    if len(done) < workers:
        reason = next((trial.reason for trial in run.trials() if trial.reason), "no training came to its end")
        raise ExperimentError(f"steps cannot be timed, {workers} trainings at a time: {reason}")
    start = elapsed - max(metrics["seconds"] for metrics in done)
    names = ("setup", "dense", "small", "evaluation")
    return Pace(start, *(fmean(metrics[f"{name}_seconds"] for metrics in done) for name in names)), int(done[0]["gpus"])
