"""Runs the searches and the trainings of a comparison, each in a run directory, so that none is run twice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.engines import launchers, preflight, search
from oialr_hpo.engines.ranks import on_first_rank
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.experiment import OBJECTIVE, Experiment
from oialr_hpo.methods import name_of
from oialr_hpo.reproduce.comparison import Comparison, Measured, Row
from oialr_hpo.reproduce.objectives import on_test_split
from oialr_hpo.reproduce.plan import TimeBox
from oialr_hpo.reproduce.variants import repeated
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.exported import export
from oialr_hpo.runs.printing import tell
from oialr_hpo.runs.ranking import best

OUT_OF_TIME = "the time is over"
ON_TEST_SPLIT = f"{on_test_split.__module__}:{on_test_split.__name__}"


def rehearse(new: Iterable[Experiment], data_dir: Path | None) -> None:
    """A step of training and an evaluation of either split, before hours of them.

    Raises:
        ExperimentError: these show a mistake.
    """
    for experiment in new:
        experiments.prepare_data(experiment, data_dir)
        preflight.rehearse(experiment, threads_per_worker(1), data_dir, ("validation", "test")).close()


class Interrupted(Exception):
    """A search or a training was stopped before its end; says why."""


@dataclass
class Runner:
    """Runs what the rows of one experiment need, or takes up what is there.

    Attributes:
        comparison: what is compared.
        out: its directory; a run directory for each search and for the trainings of each row.
        seeds: of the trainings.
        jobs: worker processes without mpirun.
        data_dir: where data sets lie.
        time_box: the time that there is; None: as much as it takes.
    """

    comparison: Comparison
    out: Path
    seeds: Sequence[int]
    jobs: int
    data_dir: Path | None
    time_box: TimeBox | None = None

    def measure(self, method: str) -> Measured:
        """Train a row's network once per seed, after searching its settings where it is tuned and there are some.

        Raises:
            Interrupted: before the end.
        """
        row = self.comparison.trained(Row.of(method))
        experiment, searched = self.comparison.of(row), None
        if self.comparison.searches(row):
            searched, experiment = self._tune(f"search-{name_of(experiment.method)}", experiment)
        tested = self._run(f"{row.folder}-test", repeated(experiment, self.seeds), ON_TEST_SPLIT)
        again = None
        if searched:
            (winner,) = best(searched.trials())
            seeds = [seed for seed in self.seeds if seed != winner.seed]
            if seeds:
                again = self._run(f"{row.folder}-again", repeated(experiment, seeds))
        if elsewhere := self.comparison.elsewhere(row):
            return Measured(tested, elsewhere.searched, elsewhere=True)
        return Measured(tested, searched, again)

    def _tune(self, name: str, experiment: Experiment) -> tuple[RunDirectory, Experiment]:
        """Search, and give the experiment with the best settings."""
        finished = self._run(name, experiment)
        (path,) = on_first_rank(lambda: export(finished, 1, self.out / name / "best"))
        return finished, experiments.load(str(path))

    def _run(self, name: str, experiment: Experiment, objective: str = OBJECTIVE) -> RunDirectory:
        path = self.out / name
        if on_first_rank(lambda: _complete(path, experiment)):
            return RunDirectory.open(path)
        experiment = on_first_rank(lambda: self._in_time(experiment, name))
        if launchers.first():
            tell(f"\n{path}")
        resume, stop = path.joinpath("experiment.yaml").exists(), StopRequest()
        finished = search.run(
            experiment, out=path, jobs=min(self.jobs, experiment.trials), resume=resume, data_dir=self.data_dir,
            objective=objective, stop=stop,
        )  # fmt: skip
        if not on_first_rank(lambda: stop.received is None and self._has_ended(finished, experiment)):
            raise Interrupted(OUT_OF_TIME if self.time_box and self.time_box.over else "interrupted")
        return finished

    def _in_time(self, experiment: Experiment, name: str) -> Experiment:
        """The experiment with the time that there is for it.

        Raises:
            Interrupted: there is none.
        """
        limited = self.time_box.limited(experiment, f"{self.out.name}/{name}") if self.time_box else experiment
        if limited is None:
            raise Interrupted(OUT_OF_TIME)
        return limited

    def _has_ended(self, run: RunDirectory, experiment: Experiment) -> bool:
        """Whether no training is left to do; a search that was short of time makes do with the trials that it has."""
        out_of_time = self.time_box and experiment.at_time_limit == "finish"
        if out_of_time and not _complete(run.path, experiment) and best(trials := run.trials()):
            ended = sum(trial.finished for trial in trials)
            run.conclude(f"its share of the time was over after {ended} of {experiment.trials} trials")
        return _complete(run.path, experiment)


def _complete(path: Path, experiment: Experiment) -> bool:
    """Whether a run directory holds all trials of this very experiment, or what it has was concluded to be enough."""
    run = RunDirectory(path)
    if not run.used:
        return False
    run.check_fits(experiment)
    trials = run.trials()
    enough = run.concluded is not None and all(trial.finished for trial in trials)
    return enough or sum(trial.state.final for trial in trials) >= experiment.trials
