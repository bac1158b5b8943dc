"""Before a search: one training process rehearses the experiment, and is then worker 0's, warmed up."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oialr_hpo.engines.child import Job, Verdict
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import OBJECTIVE, Experiment, ExperimentError
from oialr_hpo.experiment.objective import GIVEN
from oialr_hpo.experiment.settings import COMPILE_SECONDS
from oialr_hpo.tasks import Split
from oialr_hpo.training.faults import Outcome

REHEARSAL = "oialr_hpo.training.rehearsal:rehearse"
FINDING = "oialr_hpo.training.finding:find"
COMPARING = "oialr_hpo.training.step_in_bfloat16:compare"
IMPORT_SECONDS, LONGEST_SECONDS = 120.0, 30.0
"""What the imports and then the rehearsal may take, besides compiling; one that takes longer has found nothing."""


def rehearse(
    experiment: Experiment,
    threads: int,
    data_dir: Path | None,
    splits: Sequence[Split] = ("validation",),
    stop: StopRequest | None = None,
) -> TrainingProcess:
    """Make one step and one evaluation in a process of its own, or find an own objective; nothing is written.

    Args:
        experiment: as it stands; what is searched has its own value.
        threads: CPU threads of the process.
        data_dir: where data sets lie.
        splits: of the rehearsals, one after another.
        stop: a signal ends the rehearsal.

    Returns:
        the process, which takes other jobs now.

    Raises:
        ExperimentError: the rehearsal shows a mistake.
    """
    if experiment.objective != OBJECTIVE:
        return find(experiment, threads, stop=stop)
    plain = {"seed": experiment.seed, "threads": threads, "data_dir": data_dir}
    content = experiment.fixed().dump()
    jobs = [Job(REHEARSAL, content, plain | {"split": split}) for split in splits]
    return _carried_out(jobs, threads, stop, LONGEST_SECONDS + experiment.training.compile * COMPILE_SECONDS)


def find(
    experiment: Experiment, threads: int, given: Sequence[str] | None = GIVEN, stop: StopRequest | None = None
) -> TrainingProcess:
    """Find the objective, and the devices, in a process of its own, as `rehearse` does.

    Args:
        given: what the objective is to take by name; None: this process has looked at it.
    """
    return _carried_out([Job(FINDING, experiment.fixed().dump(), {"given": given})], threads, stop)


def time_in_bfloat16(
    process: TrainingProcess, experiment: Experiment, threads: int, data_dir: Path | None
) -> float | None:
    """What a step takes in bfloat16 on a CPU, as a share of float32's; None: on GPUs, or it could not be measured."""
    arguments = {"seed": experiment.seed, "threads": threads, "data_dir": data_dir}
    process.submit(Job(COMPARING, experiment.fixed().dump(), arguments))
    try:
        share: float | None = _watch(process, None).get("share")
    except ExperimentError:
        return None
    return share


def _carried_out(
    jobs: Sequence[Job], threads: int, stop: StopRequest | None, longest: float = LONGEST_SECONDS
) -> TrainingProcess:
    process = TrainingProcess(threads)
    try:
        process.wait_until_ready()
        for job in jobs:
            process.submit(job)
            _watch(process, stop, longest)
    except BaseException:
        process.kill()
        raise
    return process


def _watch(process: TrainingProcess, stop: StopRequest | None, longest: float = LONGEST_SECONDS) -> dict[str, Any]:
    """The last record of its job, if there is one in time."""
    last: dict[str, Any] = {}
    deadline = time.monotonic() + IMPORT_SECONDS
    while time.monotonic() < deadline and not (stop and stop.received):
        match process.receive(timeout=0.2):
            case ("epoch", record):
                process.answer(Verdict.GO_ON)
                last = record
                if not record:  # all is imported
                    deadline = time.monotonic() + longest
            case ("end", outcome, reason, fit):
                if outcome is not Outcome.FINISHED:
                    died = str(reason).startswith("the training process")
                    raise ExperimentError(f"a first step was tried, and {reason}" if died else str(reason))
                if not fit:
                    process.kill()
                return last
    process.kill()
    return last
