"""The experiment's data, and a first step with it."""

from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.check.findings import Findings
from oialr_hpo.check.ranks import Ranks
from oialr_hpo.engines import preflight
from oialr_hpo.engines.staging import stage
from oialr_hpo.experiment import OBJECTIVE, Experiment
from oialr_hpo.mistake import Mistake
from oialr_hpo.tasks import DataError

WORTHWHILE = 0.8
"""Share of float32's time: at low rank, where products are fewer, bfloat16 gains less than in the dense network."""


def check_data(
    ranks: Ranks,
    experiment: Experiment,
    threads: int,
    findings: Findings,
    data_dir: Path | None = None,
    stage_dir: Path | None = None,
) -> None:
    """Make the data ready on every node, and rehearse a step and an evaluation with so many threads on rank 0."""
    try:
        staged = _make_ready(ranks, experiment, data_dir, stage_dir)
    except DataError as error:
        findings.facts.append("data: not found")
        findings.errors.append(str(error))
        return
    where = f" in {staged}" if staged else ""
    findings.facts.append(f"data: {experiment.subject} is ready{where}")
    own = experiment.objective != OBJECTIVE

    def rehearse() -> float | None:
        process = preflight.rehearse(experiment, threads, staged)
        try:
            measured = experiment.training.precision == "auto" and not own
            return preflight.time_in_bfloat16(process, experiment, threads, staged) if measured else None
        finally:
            process.close()

    try:
        share = ranks.on_first_rank(rehearse)
        findings.facts.append("objective: found" if own else "rehearsal: a step and an evaluation went well")
        if share is not None:
            advice = "; set training.precision=bfloat16" if share < WORTHWHILE else ""
            findings.facts.append(f"precision: float32; in bfloat16 a dense step takes {share:.2f} of its time{advice}")
    except Mistake as error:
        findings.facts.append("objective: not found" if own else "rehearsal: a step or an evaluation failed")
        findings.errors.append(str(error))


def _make_ready(ranks: Ranks, experiment: Experiment, data_dir: Path | None, stage_dir: Path | None) -> Path | None:
    """Make the data ready as a search would, found, downloaded or staged, and decoded; returns where it is.

    Raises:
        DataError: there is none.
    """

    def ready() -> Path | None:
        if stage_dir:
            return stage(experiment, data_dir, stage_dir)
        experiments.prepare_data(experiment, data_dir)
        return data_dir

    ranks.on_first_rank(lambda: experiments.find_data(experiment, data_dir))  # downloads by one rank of all
    return ranks.on_every_node(ready)
