"""The search space: one line of YAML per tunable setting, one gene in [0, 1] per setting.

Every engine searches the unit cube; `Space.decode` alone turns its points into settings.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | None


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
        value = self._axis().decode(gene)
        return min(max(math.floor(value + 0.5), self.low), self.high)

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

    def extremes(self) -> tuple[int, int]:
        return self.low, self.high

    def spec(self) -> dict[str, Any]:
        return {"int": [self.low, self.high]} | ({"log": True} if self.log else {})

    def _axis(self) -> FloatRange:
        return FloatRange(self.low - 0.5, self.high + 0.5, self.log)


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
    def labels(self) -> tuple[Value, ...]:
        """The values for who takes those that compare equal (true, 1, 1.0) for one: where there are such, as text."""
        alike = len(set(self.values)) < len(self.values)
        return tuple(as_text(value) for value in self.values) if alike else self.values

    def label(self, value: Value) -> Value:
        """The label of one of the values."""
        self.check(value)
        return self.labels[self._index(value)]

    def spec(self) -> dict[str, Any]:
        return {"choices": list(self.values)}

    def _index(self, value: Value) -> int:
        """Position of the value, or of an equal number of another type (0 is 0.0, but 1 is not true); -1: none."""
        equal = [i for i, v in enumerate(self.values) if v == value and isinstance(v, bool) is isinstance(value, bool)]
        return next((i for i in equal if type(self.values[i]) is type(value)), equal[0] if equal else -1)


Parameter = FloatRange | IntRange | Choice


def parse_parameter(spec: Any) -> Parameter:
    """Read one line of the search space.

    `{float: [a, b]}`, `{int: [a, b]}`, either with `log: true`, or `{choices: [...]}`.

    Raises:
        SpaceError: the line is none of these, its range is empty or reversed, or its log starts at zero.
    """
    forms = "{float: [a, b]}, {int: [a, b]} (optionally log: true) or {choices: [...]}"
    if not isinstance(spec, Mapping):
        raise SpaceError(f"{spec!r} is not a range; write {forms}")
    kinds = [kind for kind in ("float", "int", "choices") if kind in spec]
    unknown = sorted(map(str, spec.keys() - {"float", "int", "choices", "log"}))
    if len(kinds) != 1 or unknown:
        found = f"unknown key {unknown[0]!r}" if unknown else f"{dict(spec)!r} is not a range"
        raise SpaceError(f"{found}; write {forms}")
    kind, log = kinds[0], spec.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(f"log: {log!r} is not true or false")
    return _parse_choice(spec["choices"], log) if kind == "choices" else _parse_range(kind, spec[kind], log)


def _parse_choice(values: Any, log: bool) -> Choice:
    if log:
        raise SpaceError("choices have no log scale; remove log")
    if not isinstance(values, list) or not values:
        raise SpaceError("choices need a list of at least one value")
    if any(not isinstance(v, (bool, int, float, str, type(None))) for v in values):
        raise SpaceError("choices are plain values: numbers, text, true, false or null")
    if len({(type(v), v) for v in values}) < len(values):
        raise SpaceError(f"choices {values} name a value twice")
    return Choice(tuple(values))


def _parse_range(kind: str, bounds: Any, log: bool) -> FloatRange | IntRange:
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise SpaceError(f"{kind} needs two bounds [low, high], not {bounds!r}")
    wanted, noun = (int, "whole numbers") if kind == "int" else ((int, float), "numbers")
    if any(isinstance(b, bool) or not isinstance(b, wanted) or not math.isfinite(b) for b in bounds):
        raise SpaceError(f"the bounds {bounds} must be {noun}")
    low, high = bounds
    if low > high:
        raise SpaceError(f"the range [{low}, {high}] is reversed; write [{high}, {low}]")
    if low == high:
        raise SpaceError(f"the range [{low}, {high}] is empty; widen it, or give the fixed value {low} instead")
    if log and low <= 0:
        raise SpaceError(f"a log range must start above zero, not at {low}")
    return IntRange(low, high, log) if kind == "int" else FloatRange(float(low), float(high), log)


class Space:
    """Tunable settings by dotted key, in a fixed order.

    Genes are floats in [0, 1]; values outside are clipped, so that any sampler may propose them.
    """

    def __init__(self, parameters: Mapping[str, Parameter]):
        self.parameters = dict(parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def decode(self, genes: Mapping[str, float]) -> dict[str, Value]:
        """Settings of a point of the unit cube."""
        return {
            key: parameter.decode(min(max(float(genes[key]), 0.0), 1.0)) for key, parameter in self.parameters.items()
        }

    def encode(self, settings: Mapping[str, Value]) -> dict[str, float]:
        """The point of the unit cube that decodes to `settings`.

        Raises:
            SpaceError: a value lies outside its range.
        """
        genes = {}
        for key, parameter in self.parameters.items():
            try:
                genes[key] = parameter.encode(settings[key])
            except SpaceError as error:
                raise SpaceError(f"{key}: {error}") from None
        return genes

    def own(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """Equal settings as this space writes them: one of the very choices, a whole number for a range of these."""
        return {key: self.parameters[key].own(value) for key, value in settings.items()}

    def has(self, key: str, value: Value) -> bool:
        """Whether a setting is searched and may have this value."""
        try:
            self.parameters[key].check(value)
        except (KeyError, SpaceError):
            return False
        return True

    def spec(self) -> dict[str, Any]:
        """The space as it stands in a YAML file."""
        return {key: parameter.spec() for key, parameter in self.parameters.items()}

    def corners(self) -> Iterable[tuple[str, Value]]:
        """Each setting with each of its extreme values (every choice), to be checked one at a time."""
        for key, parameter in self.parameters.items():
            for value in parameter.extremes():
                yield key, value
