"""The trained networks that a search keeps: those of its best trials, `keep_weights` of its experiment.

There are never more files than these and those of trials that are just ending. One process of a search decides, where
all trials are known.
"""

from collections.abc import Sequence
from dataclasses import replace

from oialr_hpo.experiment import Experiment
from oialr_hpo.files import discard
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import front, standings
from oialr_hpo.runs.trial import Trial


class KeptWeights:
    """The files of a run directory with networks of trials; one that is among the best no more is removed.

    Args:
        experiment: which says how many, and what is good: with several goals the Pareto front, by the first goal.
        run: whose files they are.
        earlier: trials of earlier sessions; files of others that these left behind are removed.
    """

    def __init__(self, experiment: Experiment, run: RunDirectory, earlier: Sequence[Trial]):
        self._count, self._run = experiment.keep_weights, run
        self._rank = front if len(experiment.score.goals) > 1 else standings
        self._trials = [_outline(trial) for trial in earlier if trial.candidate]
        files = self._run.weights(0).parent.glob("trial-*.safetensors*")  # also what a killed process was writing
        numbers = (file.name.split(".")[0].removeprefix("trial-") for file in files)
        there = {int(number) for number in numbers if number.isdigit()}
        self._there = there & {trial.number for trial in self._trials}
        for number in there - self._there:
            discard(self._run.weights(number))
        self._keep_best()

    def ended(self, trial: Trial) -> None:
        """A trial has ended, whose network, if it has one, is in its file."""
        if not trial.candidate:
            discard(self._run.weights(trial.number))
            return
        self._trials.append(_outline(trial))
        self._there.add(trial.number)
        self._keep_best()

    def _keep_best(self) -> None:
        """Of settings that were tried more than once, the network nearest to their mean stays."""
        best = set()
        for standing in self._rank(self._trials)[: self._count]:
            if there := [trial for trial in standing.trials if trial.number in self._there]:
                best.add(replace(standing, trials=there).trial.number)
        for number in self._there - best:
            discard(self._run.weights(number))
        self._there = best


def _outline(trial: Trial) -> Trial:
    """What ranking needs of it."""
    return replace(trial, epochs=[], metrics={}, best_epoch={})
