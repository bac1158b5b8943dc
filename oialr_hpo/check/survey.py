"""Everything that a search needs, looked at in its order."""

import os
from collections.abc import Iterable
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo import loggers
from oialr_hpo.check.data import check_data
from oialr_hpo.check.devices import ask_torch, device_map
from oialr_hpo.check.disk import run_directory
from oialr_hpo.check.findings import Findings
from oialr_hpo.check.machine import Place, check_cpus, versions
from oialr_hpo.check.ranks import Ranks
from oialr_hpo.experiment import Experiment, ExperimentError


def survey(
    ranks: Ranks,
    name: str | None,
    changes: Iterable[str] = (),
    out: Path | None = None,
    data_dir: Path | None = None,
    stage_dir: Path | None = None,
) -> Findings:
    """Look at everything that a search needs; every rank calls this, and all get the same findings.

    Args:
        ranks: who takes part.
        name: of the experiment, by name or path, with `changes` of its settings; None: its data is not looked at.
        out: the run directory, `runs/NAME` by default.
        data_dir: where data sets lie.
        stage_dir: on the local disk of every node, where the data is copied.

    Raises:
        LaunchError: a rank hears nothing from another.
    """
    findings = Findings()
    mpi = ranks.describe()
    place = Place.here(ranks.rank, *ranks.local_rank())
    places = ranks.gather(place)
    if ranks.size == 1 and os.environ.get("SLURM_NTASKS", "1") != "1":
        given = os.environ["SLURM_NTASKS"]
        findings.warnings.append(f"Slurm gives {given} tasks, but this is one; use srun, mpirun or --jobs {given}")
    findings.facts += [versions(places, findings), mpi, ""]
    probes = ask_torch(ranks, place, places)
    findings.facts += [device_map(places, probes, findings), ""]
    check_cpus(places, findings)
    experiment = _experiment(name, changes, findings)
    run = out or (Path("runs") / Path(name).stem if name else Path("runs"))
    findings.facts.append(run_directory(ranks, run, findings))
    if experiment is None:
        findings.facts.append("data: not looked at; name an experiment")
    else:
        check_data(ranks, experiment, place.threads, findings, data_dir, stage_dir)
        _look_at_loggers(experiment, findings)
    return findings


def _look_at_loggers(experiment: Experiment, findings: Findings) -> None:
    try:
        loggers.load(experiment.loggers)
    except loggers.LoggerError as error:
        findings.errors.append(str(error))


def _experiment(name: str | None, changes: Iterable[str], findings: Findings) -> Experiment | None:
    try:
        return experiments.load(name, changes) if name else None
    except ExperimentError as error:
        findings.errors.append(str(error))
        return None
