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
    try:
        ranks.on_first_rank(lambda: preflight.rehearse(experiment, threads, staged).close())
        findings.facts.append("objective: found" if own else "rehearsal: a step and an evaluation went well")
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
