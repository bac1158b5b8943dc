"""What a searched setting may be: numbers of a range, evenly spaced ones, or the listed ones; each with its gene.

A gene in [0, 1] decodes to a value, and a value encodes to a gene that decodes to it.
"""

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

Plain = bool | int | float | str | None
Value = Plain | list[Any]
"""Of a setting; a list holds such values."""
CLOSE = 1e-9


def as_text(settings: Any) -> str:
    """Settings, or one value, as a text that tells them apart by type too: true is not 1, and 1 is not 1.0."""
    return json.dumps(settings, sort_keys=True)


class SpaceError(ValueError):
    """A line of the search space that cannot be read; the message says what is wrong and how to mend it."""


@dataclass(frozen=True)
class FloatRange:
    """Real numbers in [low, high], uniform or log-uniform."""

    low: float
    high: float
    log: bool = False

    def decode(self, gene: float) -> float:
        if self.log:
            value = math.exp(math.log(self.low) + gene * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + gene * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def encode(self, value: Value) -> float:
        self.check(value)
        assert isinstance(value, (int, float))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def check(self, value: Value) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SpaceError(f"{value!r} is not a number in [{self.low}, {self.high}]")
        if not self.low <= value <= self.high:
            raise SpaceError(f"{value} lies outside the range [{self.low}, {self.high}]")

    def own(self, value: Value) -> Value:
        return value

    def nearest(self, number: float) -> float:
        """Of all that it may be."""
        return min(max(number, self.low), self.high)

    def extremes(self) -> tuple[float, float]:
        return self.low, self.high

    def spec(self) -> dict[str, Any]:
        return {"float": [self.low, self.high]} | ({"log": True} if self.log else {})


@dataclass(frozen=True)
class IntRange:
    """Whole numbers in [low, high], both included; each owns an equal share of the (log-)axis."""

    low: int
    high: int
    log: bool = False

    def decode(self, gene: float) -> int:
        return self.nearest(self._axis().decode(gene))

    def encode(self, value: Value) -> float:
        self.check(value)
        return self._axis().encode(value)

    def check(self, value: Value) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:
            raise SpaceError(f"{value!r} is not a whole number in [{self.low}, {self.high}]")
        if not self.low <= value <= self.high:
            raise SpaceError(f"{value} lies outside the range [{self.low}, {self.high}]")

    def own(self, value: Value) -> Value:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def nearest(self, number: float) -> int:
        return min(max(math.floor(number + 0.5), self.low), self.high)

    def extremes(self) -> tuple[int, int]:
        return self.low, self.high

    def spec(self) -> dict[str, Any]:
        return {"int": [self.low, self.high]} | ({"log": True} if self.log else {})

    def _axis(self) -> FloatRange:
        return FloatRange(self.low - 0.5, self.high + 0.5, self.log)


@dataclass(frozen=True)
class Steps:
    """Evenly spaced numbers from `low` to `high`, both included; each owns an equal share of the gene.

    All three are whole numbers, or none is.
    """

    low: float
    high: float
    step: float

    def decode(self, gene: float) -> float:
        return self._at(min(int(gene * self.count), self.count - 1))

    def encode(self, value: Value) -> float:
        self.check(value)
        assert isinstance(value, (int, float))
        return (round(self._place(value)) + 0.5) / self.count

    def check(self, value: Value) -> None:
        noun = "whole number" if self.whole else "number"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SpaceError(f"{value!r} is not a {noun} in [{self.low}, {self.high}]")
        if not -CLOSE <= self._place(value) <= self.count - 1 + CLOSE:
            raise SpaceError(f"{value} lies outside the range [{self.low}, {self.high}]")
        if abs(self._place(value) - round(self._place(value))) > CLOSE:
            raise SpaceError(f"{value} lies between the steps of {self.step} from {self.low} to {self.high}")

    def own(self, value: Value) -> Value:
        try:
            self.check(value)
        except SpaceError:
            return value
        return self.nearest(value)  # type: ignore[arg-type]

    def nearest(self, number: float) -> float:
        return self._at(min(max(round(self._place(number)), 0), self.count - 1))

    def extremes(self) -> tuple[float, float]:
        return self.low, self.high

    def spec(self) -> dict[str, Any]:
        return {"int" if self.whole else "float": [self.low, self.high], "step": self.step}

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(map(self._at, range(self.count)))

    @cached_property
    def count(self) -> int:
        return round((self.high - self.low) / self.step) + 1

    @property
    def whole(self) -> bool:
        return isinstance(self.step, int)

    def _place(self, value: float) -> float:
        return (value - self.low) / self.step

    def _at(self, index: int) -> float:
        """As one would write it: 0.3 is not 3 x 0.1 in binary."""
        return round(self.low + index * self.step, self._digits) if self._digits else self.low + index * self.step

    @cached_property
    def _digits(self) -> int:
        """After the point."""
        if self.whole:
            return 0
        return max(0, *(-int(Decimal(repr(number)).as_tuple().exponent) for number in (self.low, self.step)))


@dataclass(frozen=True)
class Choice:
    """One of the listed values; each owns an equal share of the gene."""

    values: tuple[Value, ...]

    def decode(self, gene: float) -> Value:
        return self.values[min(int(gene * len(self.values)), len(self.values) - 1)]

    def encode(self, value: Value) -> float:
        self.check(value)
        return (self._index(value) + 0.5) / len(self.values)

    def check(self, value: Value) -> None:
        if self._index(value) < 0:
            raise SpaceError(f"{value!r} is not one of the choices {list(self.values)}")

    def own(self, value: Value) -> Value:
        index = self._index(value)
        return value if index < 0 else self.values[index]

    def extremes(self) -> tuple[Value, ...]:
        return self.values

    @property
    def labels(self) -> tuple[Plain, ...]:
        """The values for who takes plain ones alone, and those that compare equal (true, 1, 1.0) for one: where there
        are such, as text."""
        plain = tuple(value for value in self.values if not isinstance(value, list))
        return plain if len(set(plain)) == len(self.values) else tuple(map(as_text, self.values))

    def label(self, value: Value) -> Plain:
        """The label of one of the values."""
        self.check(value)
        return self.labels[self._index(value)]

    def spec(self) -> dict[str, Any]:
        return {"choices": list(self.values)}

    def _index(self, value: Value) -> int:
        """Position of the value, or of an equal number of another type (0 is 0.0, but 1 is not true); -1: none."""
        equal = [i for i, v in enumerate(self.values) if v == value and isinstance(v, bool) is isinstance(value, bool)]
        return next((i for i in equal if type(self.values[i]) is type(value)), equal[0] if equal else -1)


Parameter = FloatRange | IntRange | Steps | Choice
"""One of the kinds."""
