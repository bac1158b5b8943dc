"""The narrowed experiment as a file: made by a probe, in this process or in one of its own."""

import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.files import write_whole
from oialr_hpo.probing.document import change_table, document, layer_table
from oialr_hpo.probing.narrowing import narrow
from oialr_hpo.probing.observation import SHARE, TOLERANCE

NARROWED = ("search", "start_from", "oialr", "evidence")
"""Of an experiment, what a probe changes."""


def probe(
    experiment: Experiment,
    out: Path,
    command: str,
    threads: int,
    data_dir: Path | None = None,
    share: float = SHARE,
    tolerance: float = TOLERANCE,
) -> None:
    """Train the dense network for a share of a run, and write the experiment with a narrowed search to `out`.

    Args:
        experiment: with a search that holds settings of OIALR.
        command: that makes the file again, for its heading.
        threads: CPU threads.
        data_dir: where data sets lie.
        share: of the run that is trained, in (0, 1].
        tolerance: of the utilized rank, in percent of validation accuracy per projection.

    Raises:
        ExperimentError: none of OIALR's settings is searched, or the training diverged.
        OSError: `out` cannot be written.
    """
    if experiment.method not in ("oialr", "dense"):
        raise ExperimentError(f"probe: it narrows the search of OIALR's settings; the method is {experiment.method}")
    if not {"oialr.delay", "oialr.cutoff", "oialr.step_fraction"} & set(experiment.search):
        raise ExperimentError("probe: neither oialr.delay nor oialr.cutoff nor oialr.step_fraction is searched")
    from oialr_hpo.probing.observing import observe  # loads torch

    out.parent.mkdir(parents=True, exist_ok=True)
    observation = observe(experiment, threads, data_dir, share, tolerance)
    changes = narrow(experiment, observation)
    print(f"\n{layer_table(observation)}\n\n{change_table(experiment, changes)}")
    write_whole(out, document(experiment, observation, changes, command))


def probed(experiment: Experiment, file: Path, threads: int, data_dir: Path | None, resume: bool) -> Experiment:
    """The experiment with its search narrowed by a probe in a process of its own, which writes `file`.

    With `resume`, what an earlier one wrote there is taken.

    Raises:
        ExperimentError: the probe failed.
    """
    if not (resume and file.exists()):
        command = shlex.join(["python", "-m", "oialr_hpo.search", *sys.argv[1:]])
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # this process is to stay free of torch
            try:
                pool.submit(probe, experiment, file, command, threads, data_dir).result()
            except BrokenProcessPool:
                raise ExperimentError("probe: its process died; what it printed is above") from None
            except OSError as error:
                raise ExperimentError(f"{file} cannot be written: {error.strerror}; choose another --out") from None
    found = experiments.load(str(file))
    return experiment.model_copy(update={key: getattr(found, key) for key in NARROWED})
