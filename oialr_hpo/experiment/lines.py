"""A line of `search`: what a setting may be, where it is searched at all, whether it is a multiple of another, and
where its best value is believed to lie."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from oialr_hpo.experiment.ranges import Choice, FloatRange, IntRange, Parameter, SpaceError, Steps, Value, as_text

KINDS = ("float", "int", "choices")
FORMS = "{float: [a, b]}, {int: [a, b]} (optionally log: true or step: c) or {choices: [...]}"


BESIDE = {"when", "times", "prior"}
"""What a line may have beside the values."""


@dataclass(frozen=True)
class Line:
    """What a setting may be, and where.

    Attributes:
        parameter: the values; of a setting that is a multiple, the factors.
        when: values of other settings, by dotted key, for which it is searched; elsewhere it has the file's own value.
        times: the setting that it is a multiple of.
        prior: the value, of a multiple the factor, near which the best one is believed to lie, if any is.
    """

    parameter: Parameter
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    times: str | None = None
    prior: tuple[Value] | tuple[()] = ()

    @property
    def others(self) -> list[str]:
        """The settings that it depends on."""
        return [*self.when, *([self.times] if self.times else [])]

    def spec(self) -> dict[str, Any]:
        when = {
            other: list(values) if len(values) > 1 or isinstance(values[0], list) else values[0]
            for other, values in self.when.items()
        }
        linked = {"times": self.times, "when": when}
        believed = dict(zip(("prior",), self.prior, strict=False))
        return self.parameter.spec() | {key: value for key, value in linked.items() if value} | believed


def parse_line(spec: Any) -> Line:
    """Read one line of the search space: a parameter, optionally with `when: {KEY: VALUE}`, `times: KEY` and
    `prior: VALUE`.

    Raises:
        SpaceError: the line is none.
    """
    if not isinstance(spec, Mapping) or not spec.keys() & BESIDE:
        return Line(parse_parameter(spec))
    parameter = parse_parameter({key: value for key, value in spec.items() if key not in BESIDE})
    times = spec.get("times")
    if "times" in spec and not (isinstance(times, str) and times):
        raise SpaceError(f"times: {times!r} is no setting; write times: schedule.lr")
    if times and isinstance(parameter, Choice):
        raise SpaceError("choices are no factors; write {float: [a, b], times: ...}, optionally with step: c")
    when = _parse_when(spec["when"]) if "when" in spec else {}
    return Line(parameter, when, times, _parse_prior(spec["prior"], parameter) if "prior" in spec else ())


def parse_parameter(spec: Any) -> Parameter:
    """Read what a setting may be.

    `{float: [a, b]}`, `{int: [a, b]}`, either with `log: true` or `step: c`, or `{choices: [...]}`.

    Raises:
        SpaceError: it is none of these, its range is empty or reversed, its log starts at zero, or its steps do not
            lead from one end to the other.
    """
    if not isinstance(spec, Mapping):
        raise SpaceError(f"{spec!r} is not a range; write {FORMS}")
    kinds = [kind for kind in KINDS if kind in spec]
    unknown = sorted(map(str, spec.keys() - {*KINDS, "log", "step"}))
    if len(kinds) != 1 or unknown:
        found = f"unknown key {unknown[0]!r}" if unknown else f"{dict(spec)!r} is not a range"
        raise SpaceError(f"{found}; write {FORMS}")
    kind, log = kinds[0], spec.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(f"log: {log!r} is not true or false")
    if kind == "choices":
        return _parse_choice(spec["choices"], log, "step" in spec)
    found_range = _parse_range(kind, spec[kind], log)
    return _parse_steps(kind, found_range, spec["step"]) if "step" in spec else found_range


def _parse_when(when: Any) -> dict[str, tuple[Value, ...]]:
    if not isinstance(when, Mapping) or not when or not all(isinstance(key, str) for key in when):
        raise SpaceError(f"when: {when!r} is no condition; write when: {{KEY: VALUE}} or {{KEY: [VALUE, ...]}}")
    found = {key: tuple(values) if isinstance(values, list) else (values,) for key, values in when.items()}
    for key, values in found.items():
        if not values or not all(map(_is_value, values)):
            raise SpaceError(f"when.{key}: {when[key]!r} is no value; write one, or a list of them")
    return found


def _parse_prior(value: Any, parameter: Parameter) -> tuple[Value]:
    try:
        parameter.check(value)
    except SpaceError as error:
        raise SpaceError(f"prior: {error}; name one of the values that it may have, or widen them") from None
    return (parameter.own(value),)


def _parse_choice(values: Any, log: bool, step: bool) -> Choice:
    if log or step:
        raise SpaceError("choices have no log scale; remove log" if log else "choices have no step; remove it")
    if not isinstance(values, list) or not values:
        raise SpaceError("choices need a list of at least one value")
    if not all(map(_is_value, values)):
        raise SpaceError("choices are plain values, or lists of these: numbers, text, true, false or null")
    if len(set(map(as_text, values))) < len(values):
        raise SpaceError(f"choices {values} name a value twice")
    return Choice(tuple(values))


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_value, value))
    return isinstance(value, (bool, int, float, str, type(None)))


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


def _parse_steps(kind: str, whole: FloatRange | IntRange, step: Any) -> Steps:
    wanted, noun = (int, "whole number") if kind == "int" else ((int, float), "number")
    if isinstance(step, bool) or not isinstance(step, wanted) or not 0 < step < math.inf:
        raise SpaceError(f"step: {step!r} is not a {noun} above zero")
    if whole.log:
        raise SpaceError("a log range has no steps; remove log or step, or list choices")
    low, high, length = (Decimal(repr(number)) for number in (whole.low, whole.high, step))
    reached = low + (high - low) // length * length
    if reached != high:
        end = f"end at {reached} or {reached + length}" if reached > low else "choose a smaller step"
        raise SpaceError(f"step: steps of {step} from {whole.low} do not lead to {whole.high}; {end}")
    return Steps(whole.low, whole.high, step if kind == "int" else float(step))
