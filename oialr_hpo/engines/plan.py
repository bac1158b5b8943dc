"""What is to be searched and how, and the steps that come before the first trial."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo import loggers, samplers
from oialr_hpo.engines import preflight
from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.engines.environment import environment
from oialr_hpo.engines.listening import listening
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.progress import begun
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.staging import stage
from oialr_hpo.engines.worker import Search
from oialr_hpo.experiment import OBJECTIVE, Experiment, ExperimentError
from oialr_hpo.experiment.objective import GIVEN, is_loaded
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import tell
from oialr_hpo.runs.trial import State
from oialr_hpo.runs.warm_start import with_starts


@dataclass
class Plan:
    """A search before it begins; an engine takes its steps in this order: `check`, `stage`, `prepare`.

    Attributes:
        engine: what it is called.
        suggested: the sampler, where the experiment names none and has one goal.
        ranks: of MPI; 1 without it.
        stop: a signal ends the search.
        held: closes what the search holds when it is over.
        rehearsed: the process that rehearsed the experiment, which trains next; None: none did.

    The others are those of `oialr_hpo.engines.search.run`.
    """

    experiment: str | Experiment
    changes: Iterable[str]
    path: Path
    engine: str
    suggested: str
    ranks: int
    jobs: int
    ranks_per_trial: int
    resume: bool
    retry: frozenset[State]
    start_from: Iterable[Path]
    data_dir: Path | None
    stage_dir: Path | None
    objective: str | None
    stop: StopRequest
    held: ExitStack
    rehearsed: TrainingProcess | None = None

    def check(self) -> Experiment:
        """The experiment, once the run directory, its settings, its sampler and its data have been found to be right.

        Raises:
            Mistake: one of them is not.
        """
        RunDirectory(self.path).check_free(self.resume)
        checked = with_sampler(with_starts(self._with_objective(), self.start_from), self.suggested)
        loggers.load(checked.loggers)
        prepare_data = experiments.find_data if self.stage_dir else experiments.prepare_data
        prepare_data(checked, self.data_dir)
        if self._at_hand(checked):
            experiments.load_objective(checked.objective, self._given)
        return checked

    def _with_objective(self) -> Experiment:
        """The experiment with the objective that was asked for, or the file's own, or that of the search to go on.

        Raises:
            ExperimentError: it is another one than that of the search to go on.
        """
        run, given = RunDirectory(self.path), self.experiment
        recorded = run.experiment.objective if self.resume and run.used else OBJECTIVE
        if isinstance(given, str):
            change = [f"objective={json.dumps(self.objective)}"] if self.objective else []
            found = experiments.load(given, [*self.changes, *change], {"objective": recorded})
        else:
            own = recorded if given.objective == OBJECTIVE else given.objective
            found = given.model_copy(update={"objective": self.objective or own})
        moved = Path(recorded).name == Path(found.objective).name  # a function of a script that lies elsewhere now
        if recorded != OBJECTIVE and not moved:  # older directories do not tell
            was = f"its trials had the objective {recorded}, now it is {found.objective}"
            raise ExperimentError(f"{self.path}: {was}; take that back, or choose another --out")
        return found

    @property
    def _given(self) -> tuple[str, ...]:
        """What an own objective is to take."""
        return (*GIVEN, "replica") if self.ranks_per_trial > 1 else GIVEN

    def _at_hand(self, checked: Experiment) -> bool:
        """Whether there is an own objective that can be looked at without importing what a search does without."""
        return checked.objective != OBJECTIVE and is_loaded(checked.objective)

    def stage(self, checked: Experiment) -> Path | None:
        """Where the data is for this node, once it has been copied there."""
        return stage(checked, self.data_dir, self.stage_dir) if self.stage_dir else self.data_dir

    def prepare(self, checked: Experiment, staged: Path | None, threads: int) -> Search:
        """Rehearse, then begin the run directory.

        Args:
            checked: what `check` gave.
            staged: where the data is.
            threads: CPU threads of the rehearsal.

        Raises:
            Mistake: the rehearsal shows one, or the run directory cannot be used.
        """
        deadline = Deadline(experiments.seconds(checked.time_limit)) if checked.time_limit else None
        own = checked.objective != OBJECTIVE
        at_hand = self._at_hand(checked)
        if own and (not at_hand or "torch" in sys.modules):
            self._hold(preflight.find(checked, threads, None if at_hand else self._given, self.stop))
        elif not own and not self.resume:
            self._hold(preflight.rehearse(checked, threads, staged, stop=self.stop))
        until = time.time() + deadline.left if deadline else None
        where = environment(self.ranks, self.jobs, self.ranks_per_trial) | {"deadline": until}
        directory = RunDirectory.create(self.path, checked, where, self.resume)
        self.held.callback(directory.release)
        self.held.enter_context(listening(directory))
        left = self._left(checked, directory) if self.resume else checked.trials
        if left > 0 and not own and not self.rehearsed:
            self._hold(preflight.find(checked, threads, self._given, self.stop))
        device = self.rehearsed.device if self.rehearsed else None
        tell(begun(checked, self.path, self.engine, where["workers"], threads, device))
        if left <= 0:
            print(f"{self.path}: all {checked.trials} trials have ended; --trials N adds more", file=sys.stderr)
        data_dir, retry = absolute(staged), self.retry
        return Search(checked, directory, data_dir, deadline, self.ranks_per_trial, retry)

    def _hold(self, process: TrainingProcess) -> None:
        self.rehearsed = process
        self.held.callback(process.close)

    def _left(self, checked: Experiment, directory: RunDirectory) -> int:
        """Trials that have not ended, wait, or are tried again."""
        return checked.trials - sum(t.state.final and t.state not in self.retry for t in directory.trials())


def absolute(directory: Path | None) -> Path | None:
    """A path that all ranks understand alike, wherever each works."""
    return directory.absolute() if directory else None


def with_sampler(experiment: Experiment, suggested: str) -> Experiment:
    """The experiment with a sampler's name: the given one, or the suggested one, or for several goals NSGA-II.

    Raises:
        SamplerError: the sampler cannot propose here.
    """
    fitting = suggested if len(experiment.score.goals) == 1 else "nsga2"
    named = experiment.with_settings({"sampler.name": experiment.sampler.name or fitting})
    place = samplers.Place(rank=0, workers=1, trials=1, seed=0, goals=len(experiment.score.metrics))
    samplers.make_propagator(named.sampler, named.space, place)
    return named
