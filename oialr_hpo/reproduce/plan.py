"""What of a comparison fits into a given time, and how the time is shared out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.experiment import Experiment
from oialr_hpo.files import write_whole
from oialr_hpo.methods import name_of
from oialr_hpo.mistake import Mistake
from oialr_hpo.reproduce.comparison import DENSE, Comparison, Row
from oialr_hpo.runs.printing import clock, table

MARGIN = 0.9
"""The share of the time that is planned for: processes have to start, and machines have slow moments."""
STEPS = 1000
"""A plan's budget is a multiple of one so manieth."""
Chosen = Sequence[tuple[Comparison, Sequence[str]]]
"""Comparisons, and the names of the rows of each that are to be measured."""


@dataclass(frozen=True)
class Pace:
    """What a training of an experiment takes, in seconds, while all other workers train as well.

    Attributes:
        start: of its process, once for each run directory.
        setup: until its first step.
        dense, small: an epoch's steps of the dense network, and of the method from its change-over on.
        evaluation: after every epoch.
    """

    start: float
    setup: float
    dense: float
    small: float
    evaluation: float

    def training(self, epochs: int, dense: bool) -> float:
        """A whole one; a method's steps are all taken to be as slow as the slower ones of both."""
        return self.setup + epochs * ((self.dense if dense else max(self.dense, self.small)) + self.evaluation)


Paces = Mapping[str, Mapping[str, Pace]]
"""By experiment and method."""


@dataclass(frozen=True)
class Part:
    """The trainings of one run directory.

    Attributes:
        folder: the directory, below that of all comparisons.
        trainings: how many there are.
        start: until the first one begins, in seconds.
        longest: what one takes.
        seconds: until all have ended.
        searches: whether they are a search's, which can make do with fewer.
    """

    folder: str
    trainings: int
    start: float
    longest: float
    seconds: float
    searches: bool = False


@dataclass(frozen=True)
class Plan:
    """A scale, and what it takes.

    Attributes:
        budget: share of the epochs and trials.
        workers: trainings at a time.
        paces: as measured with so many workers.
    """

    budget: float
    workers: int
    paces: Paces

    @classmethod
    def largest(
        cls, seconds: float, seeds: int, workers: int, paces: Paces, compared: Callable[[float], Chosen]
    ) -> "Plan":
        """The largest scale that takes no longer, or the smallest that there is.

        Args:
            seeds: of the final trainings of each row.
            compared: what is compared with a budget.
        """
        fits, too_long = 1, STEPS + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            plan = cls(middle / STEPS, workers, paces)
            if plan.seconds(compared(plan.budget), seeds) <= MARGIN * seconds:
                fits = middle
            else:
                too_long = middle
        return cls(fits / STEPS, workers, paces)

    def parts(self, chosen: Chosen, seeds: int) -> list[Part]:
        """What is run, in this order."""
        return [
            replace(part, folder=f"{comparison.name}/{part.folder}")
            for comparison, rows in chosen
            for row in rows
            for part in self._parts(comparison, comparison.trained(Row.of(row)), seeds)
        ]

    def _parts(self, comparison: Comparison, row: Row, seeds: int) -> list[Part]:
        experiment = comparison.of(row)
        method = name_of(experiment.method)
        known = self.paces[comparison.name]
        pace = known.get(method) or next(iter(known.values()))  # that of the dense network is with every method's
        longest = pace.training(experiment.training.epochs, dense=method == DENSE)
        whole = pace.start + ceil(seeds / self.workers) * longest
        tested = Part(f"{row.folder}-test", seeds, pace.start, longest, whole)
        if not comparison.searches(row):
            return [tested]
        trials = experiment.trials
        whole = pace.start + (trials / self.workers + (trials > self.workers)) * longest  # the last leave workers idle
        searched = Part(f"search-{method}", trials, pace.start, longest, whole, searches=True)
        return [searched, tested, replace(tested, folder=f"{row.folder}-again")]

    def seconds(self, chosen: Chosen, seeds: int) -> float:
        """What all takes."""
        return sum(part.seconds for part in self.parts(chosen, seeds))

    def told(self, chosen: Chosen, seeds: int) -> str:
        """The plan for people."""
        lines = []
        for comparison, _ in chosen:
            here, full = comparison.experiment, comparison.original
            lines.append(
                f"{comparison.name}: {here.training.epochs} of {full.training.epochs} epochs, {here.trials} of "
                f"{full.trials} trials (budget {self.budget:g}), {self.workers} at a time"
            )
            lines += [
                f"    an epoch's steps: dense {clock(pace.dense)}, {method} after its change-over {clock(pace.small)}; "
                f"an evaluation {clock(pace.evaluation)}"
                for method, pace in self.paces[comparison.name].items()
            ]
        rows = [
            [part.folder, part.trainings, clock(part.longest), clock(part.seconds)]
            for part in self.parts(chosen, seeds)
        ]
        lines += ["", table(["", "trainings", "one takes", "all take"], rows), ""]
        return "\n".join([*lines, f"in all {clock(self.seconds(chosen, seeds))} at most"])

    def save(self, file: Path) -> None:
        """Write it down, for a later command that goes on."""
        write_whole(file, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Plan":
        """
        Raises:
            Mistake: the file is damaged.
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            paces = {
                name: {method: Pace(**pace) for method, pace in known.items()} for name, known in found["paces"].items()
            }
            return cls(float(found["budget"]), int(found["workers"]), paces)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Mistake(f"{file}: damaged; remove it, and steps are timed anew") from None


class TimeBox:
    """The time that there is for a plan.

    Args:
        deadline: of all.
        parts: in the order in which they are run.
    """

    def __init__(self, deadline: Deadline, parts: Sequence[Part]):
        self._deadline, self._parts = deadline, parts

    @property
    def over(self) -> bool:
        return self._deadline.passed

    def limited(self, experiment: Experiment, folder: str) -> Experiment | None:
        """The experiment with the time that it has from now on: all that is left, or a search its share of that.

        Returns:
            None where there is too little to begin with.
        """
        rest = self._parts[[part.folder for part in self._parts].index(folder) :]
        part, left, how = rest[0], self._deadline.left, "interrupt"
        if left <= part.start:
            return None
        if part.searches:
            left *= part.seconds / sum(each.seconds for each in rest)
            left, how = max(left - part.longest, left / 2), "finish"  # what runs then comes to its end
        return experiment.model_copy(update={"time_limit": f"{max(1, round(left))}s", "at_time_limit": how})
