"""What a comparison is: the rows of an experiment, as far as they were measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oialr_hpo import methods
from oialr_hpo.experiment import Experiment
from oialr_hpo.reproduce.variants import for_dense, for_method
from oialr_hpo.runs.directory import RunDirectory

DENSE, STATES = "dense", ("untuned", "tuned")


@dataclass(frozen=True)
class Row:
    """A method, untuned or tuned.

    Attributes:
        method: a built-in method's name, or `package.module:Class`; None: the experiment's own.
    """

    method: str | None
    tuned: bool

    @classmethod
    def of(cls, name: str) -> "Row":
        """The row of this name."""
        method, _, state = name.rpartition(", ")
        return cls(DENSE, False) if name == DENSE else cls(method or None, state == "tuned")

    @property
    def name(self) -> str:
        """`untuned`, `tuned`, `dense`, `dense, tuned`, `rigl, untuned`, `pruning:Pruning, tuned`."""
        if self == Row(DENSE, False):
            return DENSE
        return ", ".join(filter(None, [self.method, STATES[self.tuned]]))

    @property
    def folder(self) -> str:
        """How the names of its run directories begin."""
        called = self.method and methods.name_of(self.method)
        return Row(called, self.tuned).name.replace(", ", "-")

    def where(self, own: str) -> "Row":
        """The same row in a comparison whose experiment has the method `own`."""
        return Row(None, self.tuned) if self.method and methods.name_of(self.method) == own != DENSE else self

    def label(self, own: str) -> str:
        """What tables and pictures call it there."""
        method = self.method or own
        if self.method == DENSE:
            return self.name
        return f"{methods.load_method(method).__name__ if is_there(method) else method.upper()}, {STATES[self.tuned]}"


def is_there(method: str) -> bool:
    """Whether a method can be trained with: published tables name some that are not built."""
    return method in methods.METHODS.names() or ":" in method


METHODS = ("dense", "untuned", "tuned", "dense, tuned")
"""The names of the rows that every table has, in their order."""


@dataclass(frozen=True)
class Measured:
    """What was run for a row: the trainings on the test split and, of a tuned one, its search and the trainings again
    on the validation split.

    Attributes:
        elsewhere: whether the search was another comparison's.
    """

    tested: RunDirectory
    searched: RunDirectory | None = None
    again: RunDirectory | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Found:
    """Settings for tuned rows, and the search of another comparison that found them."""

    searched: RunDirectory
    settings: Mapping[str, Any]


@dataclass
class Comparison:
    """The rows of one experiment, as far as they were measured.

    Attributes:
        experiment: as run here.
        original: as its file says, at full scale.
        rows: by name.
        others: the experiment with other methods, by their names.
        found: what tuned rows have from another comparison, by method; empty: they are searched here.
    """

    experiment_name: str
    experiment: Experiment
    original: Experiment
    rows: dict[str, Measured] = field(default_factory=dict)
    others: Mapping[str, Experiment] = field(default_factory=dict)
    found: Mapping[str, Found] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.experiment_name).stem

    @property
    def method(self) -> str:
        """What the experiment's own method is called."""
        return methods.name_of(self.experiment.method)

    def of(self, row: Row) -> Experiment:
        """What is searched for a row, or trained as it is."""
        if row.method == DENSE:
            experiment = for_dense(self.experiment)
        else:
            experiment = for_method(self.others[row.method] if row.method else self.experiment)
        elsewhere = self.elsewhere(row)
        return experiment.with_settings(elsewhere.settings) if elsewhere else experiment

    def elsewhere(self, row: Row) -> Found | None:
        """What a row has from another comparison."""
        return self.found.get(methods.name_of(row.method or self.experiment.method)) if row.tuned else None

    def searches(self, row: Row) -> bool:
        """Whether a row is searched: there are settings to tune, and not found elsewhere."""
        return row.tuned and not self.elsewhere(row) and bool(len(self.of(row).space))

    def trained(self, row: Row) -> Row:
        """The row whose trainings a row has: without settings to tune, the untuned one."""
        return row if self.searches(row) or self.elsewhere(row) else Row(row.method, tuned=False)

    def named(self, published: Mapping[str, Any]) -> dict[Row, Any]:
        """Published rows as those of this comparison; `untuned` and `tuned` are OIALR there."""
        of = {Row.of(name): values for name, values in published.items()}
        return {Row(row.method or methods.DEFAULT, row.tuned).where(self.method): of[row] for row in of}
