"""`python -m oialr_hpo.reproduce table3`: a table of the OIALR paper, measured again, with a tuned dense baseline.

Of every experiment two searches are run with the same budget, one of all its settings for OIALR, one of all but OIALR's
own for the dense network; then dense, untuned and both tuned networks are trained with fresh seeds and
tested once each. Everything lies in run directories, so that the same command goes on where it was interrupted.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from oialr_hpo import experiment as experiments
from oialr_hpo import search
from oialr_hpo.commands import INTERRUPTED, Parser, command, natural, path, positive, share
from oialr_hpo.comparison import METHODS, Comparison, Measured, published, tables, write
from oialr_hpo.engines import launchers, preflight
from oialr_hpo.engines.worker import OBJECTIVE, threads_per_worker
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.export import export
from oialr_hpo.files import check_writable
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.training.objective import evaluate

T = TypeVar("T")
SEEDS = (1000, 1001, 1002)
"""Far from those of a search, which count up from the experiment's own."""


class Interrupted(Exception):
    """A search or a training was stopped before its end."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("reproduce", __doc__.split("\n")[0])
    parser.add_argument(
        "name", metavar="NAME", help="table3 (mini ViT, CIFAR-10), table4 (Autoformer, ETTm2), or any experiment"
    )
    parser.add_argument("--budget", type=share, default=1.0, metavar="B", help="share of the epochs and trials, (0, 1]")
    parser.add_argument(
        "--seeds", type=natural, nargs="+", default=list(SEEDS), metavar="S", help="of the final trainings"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="which rows (default: all)"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="K", help="worker processes without mpirun")
    parser.add_changes()
    parser.add_argument("--out", type=path, metavar="DIR", help="default: runs/reproduce/NAME")
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    if options.name not in tables():
        experiments.find(options.name, others=tables())
    out = options.out or Path("runs/reproduce") / Path(options.name).stem
    out = _on_first_rank(lambda: out.absolute() if launchers.launched() else out)
    _on_first_rank(lambda: check_writable(out, directory=True, remedy="choose another --out"))
    comparisons = [
        Comparison(name, shorten(load(name, options.set), options.budget), experiments.load(name), {})
        for name in published(options.name).experiments
    ]
    new = [comparison.experiment for comparison in comparisons if not (out / comparison.name).exists()]
    _on_first_rank(lambda: rehearse(new, options.data_dir))
    interrupted = False
    for comparison in comparisons:
        runner = Runner(
            comparison, out / comparison.name, list(dict.fromkeys(options.seeds)), options.jobs, options.data_dir
        )
        try:
            for method in options.methods:
                comparison.rows[method] = runner.measure(method)
                _on_first_rank(lambda: write(options.name, comparisons, out))
        except Interrupted:
            interrupted = True
            break
    text = _on_first_rank(lambda: write(options.name, comparisons, out))
    if launchers.first():
        print(f"\n{text}\n{out / 'table.md'}, .csv and .json")
        if interrupted:
            print("interrupted; the same command goes on", file=sys.stderr)
    if interrupted:
        raise SystemExit(INTERRUPTED)


def load(name: str, changes: Iterable[str]) -> Experiment:
    """An experiment that can be compared.

    Raises:
        ExperimentError: it has several goals: there is no best trial to compare.
    """
    loaded = experiments.load(name, changes)
    if len(loaded.score.metrics) > 1:
        raise ExperimentError(f"{name}: score names several goals, of which no trial is the best; name one")
    return loaded


def rehearse(new: Iterable[Experiment], data_dir: Path | None) -> None:
    """A step of training and an evaluation of either split, before hours of them.

    Raises:
        ExperimentError: these show a mistake.
    """
    for experiment in new:
        experiments.prepare_data(experiment, data_dir)
        preflight.rehearse(experiment, threads_per_worker(1), data_dir, ("validation", "test")).close()


def shorten(experiment: Experiment, budget: float) -> Experiment:
    """The experiment with this share of its epochs and trials; durations that are fractions shrink with it."""
    epochs = max(1, round(budget * experiment.training.epochs))
    trials = max(len(experiment.start_from) + 1, round(budget * experiment.trials))
    if budget == 1:
        return experiment
    return experiment.with_settings({"training.epochs": epochs}).model_copy(update={"trials": trials})


def for_oialr(experiment: Experiment) -> Experiment:
    """The search for OIALR's settings."""
    return experiment.model_copy(update={"dense_baseline": False})


def for_dense(experiment: Experiment) -> Experiment:
    """The search for the dense network: with the same budget, of all settings but OIALR's own."""
    searched = {key: spec for key, spec in experiment.search.items() if not key.startswith("oialr.")}
    starts = [{key: value for key, value in start.items() if key in searched} for start in experiment.start_from]
    unique = [start for number, start in enumerate(starts) if start not in starts[:number]]
    of_search = {"search": searched, "start_from": unique, "dense_baseline": False, "constraints": {}}
    return experiment.with_settings({"method": "dense"}).model_copy(update=of_search)


def repeated(experiment: Experiment, seeds: Sequence[int]) -> Experiment:
    """A search without a sampler: one trial for each seed, with the experiment's own settings."""
    fixed = experiment.fixed()
    again = {
        "search": {"seed": {"choices": list(seeds)}},
        "start_from": [{"seed": seed} for seed in seeds],
        "trials": len(seeds),
        "constraints": {},
        "evidence": None,
        "early_stopping": fixed.early_stopping.model_copy(update={"enabled": False}),
    }
    return fixed.model_copy(update=again)


@dataclass
class Runner:
    """Runs what the rows of one experiment need, or takes up what is there.

    Attributes:
        comparison: what is compared.
        out: its directory; a run directory for each search and for the trainings of each row.
        seeds: of the trainings.
        jobs: worker processes without mpirun.
        data_dir: where data sets lie.
    """

    comparison: Comparison
    out: Path
    seeds: Sequence[int]
    jobs: int
    data_dir: Path | None

    def measure(self, method: str) -> Measured:
        """Train a row's network once per seed, after searching its settings where it is tuned and there are some.

        Raises:
            Interrupted: before the end.
        """
        experiment, searched = self.comparison.experiment, None
        of_oialr, of_dense = for_oialr(experiment), for_dense(experiment)
        if method == "tuned" and of_oialr.search:
            searched, experiment = self._tune("search-oialr", of_oialr)
        elif method == "dense, tuned" and of_dense.search:
            searched, experiment = self._tune("search-dense", of_dense)
        elif method in ("dense", "dense, tuned"):
            method, experiment = "dense", experiment.with_settings({"method": "dense"})
        else:
            method = "untuned"
        folder = method.replace(", ", "-")
        tested = self._run(f"{folder}-test", repeated(experiment, self.seeds), f"{__name__}:on_test_split")
        again = None
        if searched:
            (winner,) = best(searched.trials())
            seeds = [seed for seed in self.seeds if seed != winner.seed]
            if seeds:
                again = self._run(f"{folder}-again", repeated(experiment, seeds), f"{__name__}:on_validation_split")
        return Measured(tested, searched, again)

    def _tune(self, name: str, experiment: Experiment) -> tuple[RunDirectory, Experiment]:
        """Search, and give the experiment with the best settings."""
        finished = self._run(name, experiment)
        (path,) = _on_first_rank(lambda: export(finished, 1, self.out / name / "best"))
        return finished, experiments.load(str(path))

    def _run(self, name: str, experiment: Experiment, objective: str = OBJECTIVE) -> RunDirectory:
        path = self.out / name
        if _on_first_rank(lambda: _complete(path, experiment)):
            return RunDirectory.open(path)
        if launchers.first():
            print(f"\n{path}", flush=True)
        resume = path.joinpath("experiment.yaml").exists()
        finished = search.run(
            experiment, out=path, jobs=self.jobs, resume=resume, data_dir=self.data_dir, objective=objective
        )
        if not _on_first_rank(lambda: _complete(path, experiment)):
            raise Interrupted
        return finished


def _complete(path: Path, experiment: Experiment) -> bool:
    """Whether a run directory holds all trials of this very experiment."""
    run = RunDirectory(path)
    if not run.used:
        return False
    run.check_fits(experiment)
    return sum(trial.finished for trial in run.trials()) >= experiment.trials


def _on_first_rank(action: Callable[[], T]) -> T:
    """Run an action on rank 0 and give its result to all ranks; without MPI, run it."""
    if launchers.join() == 1:
        return action()
    from oialr_hpo.engines import mpi

    return mpi.on_first_rank(action)


def on_validation_split(experiment: Experiment, **arguments: Any) -> Generator[dict[str, Any], Any, None]:
    """An objective: as a search trains, with the experiment's seed."""
    yield from evaluate(experiment, **arguments | {"seed": experiment.seed})


def on_test_split(experiment: Experiment, **arguments: Any) -> Generator[dict[str, Any], Any, None]:
    """An objective: tested once, at the end; only that record is scored."""
    records = evaluate(experiment, **arguments | {"seed": experiment.seed, "split": "test"})
    measured = {*experiment.score.metrics, *experiment.constraints}
    record, answer = None, None
    try:
        while True:
            record = records.send(answer)
            answer = yield {name: value for name, value in record.items() if name not in measured}
    except StopIteration:
        if record and answer is None:
            yield record


if __name__ == "__main__":
    from oialr_hpo import reproduce  # whose objectives have a name that child processes can import

    reproduce.main()
