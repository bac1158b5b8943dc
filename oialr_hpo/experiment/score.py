"""What a search aims at: metrics that are to be small or large, and the bounds that others must keep."""

import math
from collections.abc import Iterable, Mapping, Set
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from oialr_hpo.experiment.metrics import NOTES

Direction = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")


class Goal(NamedTuple):
    metric: str
    direction: Direction

    @property
    def sign(self) -> int:
        """What turns the metric into something to be minimised."""
        return 1 if self.direction == "minimize" else -1


def _metrics(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    if value is not None and not (isinstance(names, list) and names and all(isinstance(n, str) and n for n in names)):
        raise ValueError(f"name a metric, such as error, or a list of metrics, not {value!r}")
    return value


Metrics = Annotated[str | list[str] | None, BeforeValidator(_metrics)]


class Score(BaseModel):
    """What a search minimises or maximises: a metric of the validation split, with a weight on the trainable share.

    Several metrics make as many goals of equal standing, whose Pareto front is searched.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    minimize: Metrics = Field(None, description="such as error, or [error, trainable_percent]")
    maximize: Metrics = Field(None, description="such as top1")
    trainable_weight: float = Field(
        0.0,
        ge=0,
        description="how much worse the score is per unit of trainable share (1 = the dense model), in its own unit",
    )
    epoch: Literal["last", "best"] = Field("last", description="whose record is scored")

    @model_validator(mode="after")
    def _names_every_metric_once(self) -> "Score":
        if not self.metrics:
            raise ValueError("name what counts, such as minimize: error or maximize: top1")
        if repeated := [name for name in self.metrics if self.metrics.count(name) > 1]:
            raise ValueError(f"{repeated[0]} is named twice; minimize or maximize it, once")
        return self

    @property
    def goals(self) -> list[Goal]:
        """One or more, those to be minimised first."""
        named = {direction: getattr(self, direction) or [] for direction in DIRECTIONS}
        return [
            Goal(name, direction)
            for direction, names in named.items()
            for name in ([names] if isinstance(names, str) else names)
        ]

    @property
    def metrics(self) -> list[str]:
        """The metrics of the goals."""
        return [goal.metric for goal in self.goals]


class Bound(BaseModel):
    """What a metric must keep, to be compared with those that do."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    min: float | None = Field(None, description="of the metric, at least")
    max: float | None = Field(None, description="of the metric, at most")

    @model_validator(mode="after")
    def _can_be_met(self) -> "Bound":
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        if not (low <= high and low < math.inf and high > -math.inf):
            raise ValueError(f"nothing is at least {low:g} and at most {high:g}; change min or max")
        return self


def misdirected(score: Score, smaller: Set[str], larger: Set[str]) -> str | None:
    """Says which goal has the wrong direction, and what to write instead; None where all are right, or unknown.

    Args:
        score: of an experiment.
        smaller: the task's own metrics that are better when smaller.
        larger: those that are better when larger.
    """
    known: dict[str, Direction] = {
        **dict.fromkeys((note.name for note in NOTES if note.smaller_is_better), "minimize"),
        **dict.fromkeys(larger, "maximize"),
        **dict.fromkeys(smaller, "minimize"),
    }
    wrong = [goal for goal in score.goals if known.get(goal.metric, goal.direction) != goal.direction]
    if not wrong:
        return None
    right = [Goal(goal.metric, known.get(goal.metric, goal.direction)) for goal in score.goals]
    found, better = wrong[0], "larger" if wrong[0].direction == "minimize" else "smaller"
    return f"score.{found.direction}: {found.metric} is better when {better}; write score: {{{written(right)}}}"


def written(goals: Iterable[Goal]) -> str:
    """Goals as they stand in a file, such as `minimize: [loss, error], maximize: top1`."""
    parts = []
    for direction in DIRECTIONS:
        names = [goal.metric for goal in goals if goal.direction == direction]
        if names:
            parts.append(f"{direction}: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}")
    return ", ".join(parts)


def redirect(content: dict[str, Any], changed: Iterable[str]) -> None:
    """Drop the goals of an experiment's content that changes replace: whoever names new ones means these alone.

    Args:
        content: of an experiment file, changed in place.
        changed: dotted keys that are about to be set.
    """
    named = {direction for direction in DIRECTIONS if f"score.{direction}" in set(changed)}
    score = content.get("score")
    if named and isinstance(score, Mapping):
        content["score"] = {key: value for key, value in score.items() if key in named or key not in DIRECTIONS}
