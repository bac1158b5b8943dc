"""The search space: one line of YAML per tunable setting, one gene in [0, 1] per setting.

Every engine searches the unit cube; `Space.decode` alone turns its points into settings. A setting that is not searched
beside the others, since a condition of its line does not hold, has no part in them, whatever its gene.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from oialr_hpo.experiment.lines import Line, parse_line, parse_parameter
from oialr_hpo.experiment.ranges import Choice, FloatRange, IntRange, Parameter, SpaceError, Steps, Value, as_text

__all__ = [
    "MIDDLE",
    "Choice",
    "FloatRange",
    "IntRange",
    "Line",
    "Parameter",
    "Space",
    "SpaceError",
    "Steps",
    "Value",
    "as_text",
    "parse_line",
    "parse_parameter",
]

MIDDLE = 0.5
"""The gene of a setting that is not searched beside the others."""


class Space:
    """Tunable settings by dotted key, in a fixed order.

    Genes are floats in [0, 1]; values outside are clipped, so that any sampler may propose them.

    A line whose condition names a setting that is not searched holds for all points or for none: then it is no part of
    the space. One whose condition names a setting that is itself not searched beside the others does not hold.

    Attributes:
        parameters: what the genes decode to: values, or the factors of multiples.
        order: the keys, each after those that it depends on.
        conditions: of each setting that is not searched everywhere, the values that others must have; those that
            depend on others come after them.
        priors: genes near which the best ones are believed to lie, of the settings of which there is a belief.
    """

    def __init__(self, lines: Mapping[str, Parameter | Line], file: Callable[[str], Value] | None = None):
        """
        Args:
            lines: by the key of their setting; a parameter alone is searched everywhere.
            file: gives the file's own value of these and of the settings that they refer to; needed where lines depend
                on others, and to fill settings up.

        Raises:
            SpaceError: lines depend on each other in a circle, or on what can never be.
        """
        given = {key: line if isinstance(line, Line) else Line(line) for key, line in lines.items()}
        self._file: Callable[[str], Value] = file or dict[str, Value]().__getitem__
        kept = self._searched(given) if any(line.when or line.times for line in given.values()) else given
        self.order = list(kept)
        self._lines = {key: kept[key] for key in given if key in kept}
        self.parameters = {key: line.parameter for key, line in self._lines.items()}
        self.conditions = {
            key: {other: self._allowed(key, other) for other in line.when if other in kept}
            for key, line in kept.items()
            if line.when and any(other in kept for other in line.when)
        }
        self.priors = {key: line.parameter.encode(value) for key, line in self._lines.items() for value in line.prior}
        self._times = {key: line.times for key, line in kept.items() if line.times}
        self._linked = bool(self.conditions or self._times)
        for key, other in self._times.items():
            self._check_multiple(key, other)

    def __len__(self) -> int:
        return len(self.parameters)

    def decode(self, genes: Mapping[str, float]) -> dict[str, Value]:
        """Settings of a point of the unit cube."""
        if not self._linked:
            return {key: parameter.decode(_clipped(genes[key])) for key, parameter in self.parameters.items()}
        settings: dict[str, Value] = {}
        for key in self.order:
            if self._holds(key, settings):
                value = self.parameters[key].decode(_clipped(genes[key]))
                settings[key] = _product(value, self._unit(key, settings)) if key in self._times else value
        return {key: settings[key] for key in self.parameters if key in settings}

    def encode(self, settings: Mapping[str, Value]) -> dict[str, float]:
        """The point of the unit cube that decodes to `settings`; where a gene does not matter, it is in the MIDDLE.

        Raises:
            SpaceError: a value lies outside its range, or is not the file's own where it is not searched.
        """
        active = self.fill(settings) if self.conditions else settings
        genes = {}
        for key, parameter in self.parameters.items():
            try:
                if key in active:
                    genes[key] = self._gene(key, settings) if key in self._times else parameter.encode(settings[key])
                else:
                    genes[key] = MIDDLE
                    if key in settings and not self._is_file(key, settings[key]):
                        raise SpaceError(f"it had {settings[key]!r}, but is not searched there: {self.condition(key)}")
            except SpaceError as error:
                raise SpaceError(f"{key}: {error}") from None
        return genes

    def fill(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """What is searched beside these settings, as this space writes it; what they lack has the file's own value."""
        found: dict[str, Value] = {}
        for key in self.order:
            if self._holds(key, found):
                value = settings[key] if key in settings else self._file(key)
                found[key] = value if key in self._times else self.parameters[key].own(value)
        return {key: found[key] for key in self.parameters if key in found}

    def complete(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """Settings of a trial that this space may not have known: filled, and without what has the file's own value
        since it is not searched there."""
        filled = self.fill(settings)
        asleep = {key for key in self.parameters if key not in filled}
        left = {k: v for k, v in settings.items() if not (k in asleep and self._is_file(k, v))}
        return filled | left

    def prior_at(self, key: str, settings: Mapping[str, Value]) -> Value:
        """What the line of one of these settings would name as its prior: its value, of a multiple the factor."""
        return self.parameters[key].decode(self._gene(key, settings)) if key in self._times else settings[key]

    def check(self, key: str, settings: Mapping[str, Value]) -> None:
        """Whether a setting may have its value beside the others.

        Raises:
            SpaceError: it may not.
        """
        if key in self._times:
            self._gene(key, settings)
        else:
            self.parameters[key].check(settings[key])

    def has(self, key: str, value: Value) -> bool:
        """Whether a setting is searched and may have this value."""
        try:
            self.range(key).check(value)
        except (KeyError, SpaceError):
            return False
        return True

    def range(self, key: str) -> Parameter:
        """What a setting may be; of a multiple, from the lowest product to the highest."""
        parameter = self.parameters[key]
        if key not in self._times:
            return parameter
        products = [_product(factor, unit) for factor in parameter.extremes() for unit in self._units(key)]
        low, high = min(products), max(products)
        if isinstance(low, int) and isinstance(high, int) and low < high:
            return IntRange(low, high)
        return FloatRange(float(low), float(high), getattr(parameter, "log", False) and low > 0)

    def condition(self, key: str) -> str:
        """Where a setting is searched, in words."""
        named = [f"{other}: {' or '.join(map(as_text, values))}" for other, values in self._lines[key].when.items()]
        return f"only when {', '.join(named)}"

    def spec(self) -> dict[str, Any]:
        """The space as it stands in a YAML file."""
        return {key: line.spec() for key, line in self._lines.items()}

    def corners(self) -> Iterable[tuple[str, dict[str, Value]]]:
        """Each setting with each of its extreme values (every choice), to be checked one at a time; beside them what
        others must be for it."""
        for key, parameter in self.parameters.items():
            beside = self._beside(key)
            if key not in self._times:
                for value in parameter.extremes():
                    yield key, beside | {key: value}
                continue
            other = self._times[key]
            for unit in self._units(key):
                for factor in parameter.extremes():
                    searched = {other: unit} if other in self.parameters else {}
                    yield key, beside | searched | {key: _product(factor, unit)}

    def _searched(self, given: Mapping[str, Line]) -> dict[str, Line]:
        """The lines that hold somewhere, each after those that it depends on."""
        kept: dict[str, Line] = {}
        for key in _in_order(given):
            if all(other in kept for other in given[key].when if other in given):
                fixed = {other: values for other, values in given[key].when.items() if other not in given}
                if all(any(_same(self._file(other), each) for each in values) for other, values in fixed.items()):
                    kept[key] = given[key]
        return kept

    def _holds(self, key: str, settings: Mapping[str, Value]) -> bool:
        """Whether a setting is searched beside those that it depends on."""
        return key not in self.conditions or all(
            other in settings and _is_among(settings[other], values) for other, values in self.conditions[key].items()
        )

    def _allowed(self, key: str, other: str) -> tuple[Value, ...]:
        """The values of another setting for which this one is searched, as that one has them."""
        line = self._lines[other]
        if line.times or isinstance(line.parameter, FloatRange):
            raise SpaceError(f"{key}: when: {other} may be any number; give it choices, whole numbers or a step")
        for value in self._lines[key].when[other]:
            try:
                line.parameter.check(value)
            except SpaceError as error:
                raise SpaceError(f"{key}: when.{other}: {error}") from None
        return tuple(map(line.parameter.own, self._lines[key].when[other]))

    def _beside(self, key: str) -> dict[str, Value]:
        """Settings for which this one is searched."""
        found: dict[str, Value] = {}
        for other, values in self.conditions.get(key, {}).items():
            found |= self._beside(other) | {other: values[0]}
        return found

    def _check_multiple(self, key: str, other: str) -> None:
        values = self._units(key)
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            shown = ", ".join(map(as_text, values))
            raise SpaceError(f"{key}: times: {other} is not always a number: {shown}")

    def _units(self, key: str) -> list[Value]:
        """What a multiple's other setting is at its ends, and where it is not searched."""
        other = self._times[key]
        searched = list(self.range(other).extremes()) if other in self.parameters else []
        return searched if searched and other not in self.conditions else [*searched, self._file(other)]

    def _unit(self, key: str, settings: Mapping[str, Value]) -> Value:
        """What a multiple's factor is multiplied by."""
        other = self._times[key]
        return settings[other] if other in settings else self._file(other)

    def _gene(self, key: str, settings: Mapping[str, Value]) -> float:
        """The gene of a multiple's factor."""
        value, unit, parameter = settings[key], self._unit(key, settings), self.parameters[key]
        assert not isinstance(parameter, Choice) and isinstance(unit, (int, float))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SpaceError(f"{value!r} is not a number")
        if unit == 0 == value:
            return MIDDLE
        factor = value / unit if unit else math.inf
        near = parameter.nearest(factor) if unit else math.nan
        if not math.isclose(near, factor, rel_tol=1e-9):
            raise SpaceError(f"{value} is {factor:.4g} times {self._times[key]}, not in {as_text(parameter.spec())}")
        return parameter.encode(near)

    def _is_file(self, key: str, value: Value) -> bool:
        return _same(value, self._file(key))


def _clipped(gene: float) -> float:
    return min(max(float(gene), 0.0), 1.0)


def _product(factor: Value, unit: Value) -> int | float:
    assert isinstance(factor, (int, float)) and isinstance(unit, (int, float))
    return factor * unit


def _same(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _is_among(value: Value, values: Iterable[Value]) -> bool:
    return any(value == each and type(value) is type(each) for each in values)


def _in_order(lines: Mapping[str, Line]) -> Iterator[str]:
    """The keys, each after those that it depends on.

    Raises:
        SpaceError: some depend on each other.
    """
    done: set[str] = set()

    def visit(key: str, path: tuple[str, ...]) -> Iterator[str]:
        if key in path:
            circle = [*path[path.index(key) :], key]
            raise SpaceError(f"{circle[0]}: {' depends on '.join(circle)}; take one of these conditions out")
        for other in lines[key].others:
            if other in lines and other not in done:
                yield from visit(other, (*path, key))
        if key not in done:
            done.add(key)
            yield key

    for key in lines:
        if key not in done:
            yield from visit(key, ())
