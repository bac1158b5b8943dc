"""Lines of `search` that depend on others: conditions, multiples; steps of a range, and choices that are lists."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.experiment.space import MIDDLE, Choice, Space, SpaceError, Steps, parse_line, parse_parameter
from oialr_hpo.samplers._geometry import Geometry

BETAS = ([0.9, 0.99], [0.9, 0.999])
LINES = {
    "inner": {"choices": list(BETAS), "when": {"width": [32, 64], "name": ["cosine", "own"]}},
    "name": {"choices": ["cosine", "halving", "own"]},
    "k": {"float": [0.1, 2.0], "when": {"name": "cosine"}},
    "depth": {"int": [1, 4]},
    "width": {"int": [16, 64], "step": 16, "when": {"depth": [2, 3]}},
    "min_lr": {"float": [1e-3, 1.0], "log": True, "times": "lr", "when": {"name": "cosine"}},
    "lr": {"float": [1e-4, 1e-1], "log": True},
    "heads": {"int": [1, 4], "times": "width"},
}
FILE = {"inner": BETAS[0], "name": "own", "k": 1.0, "depth": 1, "width": 16, "min_lr": 0.0, "lr": 1e-3, "heads": 16}
SPACE = Space({key: parse_line(spec) for key, spec in LINES.items()}, FILE.__getitem__)

points = st.fixed_dictionaries({key: st.floats(0, 1) for key in LINES})


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(
        math.isclose(value, other[key], rel_tol=1e-9) if isinstance(value, float) else value == other[key]
        for key, value in one.items()
    )


@given(points)
def test_a_setting_has_a_part_where_its_conditions_hold(genes: dict[str, float]) -> None:
    found = SPACE.decode(genes)
    assert [key for key in LINES if key in found] == list(found)
    assert {"name", "depth", "lr", "heads"} <= found.keys()
    assert ("k" in found) == ("min_lr" in found) == (found["name"] == "cosine")
    assert ("width" in found) == (found["depth"] in (2, 3))
    assert ("inner" in found) == (found.get("width") in (32, 64) and found["name"] != "halving")
    assert found["heads"] in [factor * found.get("width", 16) for factor in (1, 2, 3, 4)]  # type: ignore[operator]
    if "min_lr" in found:
        assert 1e-3 <= found["min_lr"] / found["lr"] * (1 + 1e-9) <= 1 + 1e-6  # type: ignore[operator]


@given(points, points)
def test_settings_come_back_and_genes_without_a_part_change_nothing(
    genes: dict[str, float], others: dict[str, float]
) -> None:
    found = SPACE.decode(genes)
    back = SPACE.encode(found)
    assert same(SPACE.decode(back), found)
    assert all(back[key] == MIDDLE for key in LINES if key not in found)
    assert SPACE.decode({key: (genes if key in found else others)[key] for key in LINES}) == found
    assert same(SPACE.decode(SPACE.encode(SPACE.fill(found))), found)


@given(points, points)
def test_the_model_sees_settings_alone(genes: dict[str, float], others: dict[str, float]) -> None:
    found = SPACE.decode(genes)
    twin = {key: (genes if key in found else others)[key] for key in LINES}
    one, other = Geometry(SPACE).snap(np.array([[each[key] for key in LINES] for each in (genes, twin)]))
    assert one.tolist() == other.tolist()
    assert SPACE.decode(dict(zip(LINES, one, strict=True))) == found


@pytest.mark.parametrize("spec", [{"int": [16, 128], "step": 16}, {"float": [0, 1], "step": 0.1}])
def test_steps_reach_both_ends_and_each_owns_an_equal_share(spec: dict[str, Any]) -> None:
    steps = parse_parameter(spec)
    assert isinstance(steps, Steps) and parse_line(spec).spec() == spec
    expected = [16 * i for i in range(1, 9)] if "int" in spec else [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert list(steps.values) == expected and steps.decode(0) == expected[0] and steps.decode(1) == expected[-1]
    drawn = [steps.decode((i + 0.5) / (100 * len(expected))) for i in range(100 * len(expected))]
    assert [drawn.count(value) for value in expected] == [100] * len(expected)
    assert [steps.decode(steps.encode(value)) for value in expected] == expected


@given(st.integers(-50, 50), st.integers(1, 40), st.integers(1, 12), st.sampled_from([1, 10, 1000]), st.floats(0, 1))
def test_any_steps_come_back(low: int, count: int, step: int, unit: int, gene: float) -> None:
    spec = {"float": [low / unit, (low + count * step) / unit], "step": step / unit}
    steps = parse_parameter(spec)
    value = steps.decode(gene)
    assert value in [(low + index * step) / unit for index in range(count + 1)]
    assert steps.decode(steps.encode(value)) == value


def test_lists_are_choices() -> None:
    parameter = parse_parameter({"choices": [[0.9, 0.99], [0.9, 0.999], None]})
    assert isinstance(parameter, Choice)
    assert [parameter.decode(parameter.encode(value)) for value in parameter.values] == list(parameter.values)
    assert parameter.labels == ("[0.9, 0.99]", "[0.9, 0.999]", "null")


def test_what_is_no_multiple_or_not_searched_is_no_point() -> None:
    settings = {"name": "own", "depth": 1, "lr": 1e-2, "heads": 32}
    assert SPACE.encode(settings)["heads"] == pytest.approx(0.375)
    for changes, said in (
        ({"heads": 24}, r"heads: 24 is 1.5 times width, not in \{\"int\": \[1, 4\]\}"),
        ({"k": 0.3}, 'k: it had 0.3, but is not searched there: only when name: "cosine"'),
        ({"name": "cosine", "k": 0.3, "min_lr": 0.1}, "min_lr: 0.1 is 10 times lr"),
    ):
        with pytest.raises(SpaceError, match=said):
            SPACE.encode(settings | changes)
    assert SPACE.encode(settings | {"k": 1.0}) == SPACE.encode(settings)  # the file's own


def test_a_multiple_of_zero_is_one_point() -> None:
    space = Space({"a": Choice((0, 2)), "b": parse_line({"float": [1, 3], "times": "a"})})
    assert space.decode({"a": 0.1, "b": 0.9}) == {"a": 0, "b": 0.0}
    assert space.encode({"a": 0, "b": 0.0}) == {"a": 0.25, "b": MIDDLE}
    with pytest.raises(SpaceError, match="b: 1 is inf times a"):
        space.encode({"a": 0, "b": 1})


@pytest.mark.parametrize(
    "spec", [*LINES.values(), {"float": [0.5, 2.0], "step": 0.5, "times": "a", "when": {"b": [[1]]}}]
)
def test_a_line_survives_being_written(spec: dict[str, Any]) -> None:
    again = parse_line(spec).spec()
    assert again == spec and parse_line(again) == parse_line(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"int": [16, 130], "step": 16}, "steps of 16 from 16 do not lead to 130; end at 128 or 144"),
        ({"float": [0, 1], "step": 3}, "do not lead to 1.0; choose a smaller step"),
        ({"int": [0, 1], "step": 0.5}, "step: 0.5 is not a whole number above zero"),
        ({"float": [0, 1], "step": 0}, "step: 0 is not a number above zero"),
        ({"float": [1, 2], "step": 0.5, "log": True}, "a log range has no steps"),
        ({"choices": [1], "step": 1}, "choices have no step"),
        ({"choices": [[1], [1]]}, "name a value twice"),
        ({"choices": [{"a": 1}]}, "plain values, or lists of these"),
        ({"choices": [1, 2], "times": "a"}, "choices are no factors"),
        ({"float": [0, 1], "times": 2}, "times: 2 is no setting"),
        ({"float": [0, 1], "when": {}}, "when: {} is no condition"),
        ({"float": [0, 1], "when": "cosine"}, "is no condition; write when: {KEY: VALUE}"),
        ({"float": [0, 1], "when": {"a": []}}, "when.a: [] is no value"),
        ({"float": [0, 1], "when": {"a": {"b": 1}}}, "when.a: {'b': 1} is no value"),
    ],
)
def test_a_line_that_makes_no_sense_says_so(spec: object, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_line(spec)
    assert message in str(caught.value) and "\n" not in str(caught.value)


NAME = "search.schedule.name={choices: [cosine, halving]}"


def line(key: str, **others: Any) -> str:
    return f"search.{key}={ {'float': [0.1, 2.0]} | others }"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([line("schedule.k_decay", when={"schedule.nam": "cosine"})], "schedule.k_decay: when.schedule.nam: no such"),
        (
            [line("schedule.k_decay", times="schedule.l")],
            "schedule.k_decay: times.schedule.l: no such setting; did you",
        ),
        ([line("schedule.k_decay", when={"schedule.name": "cosin"})], "when.schedule.name: no schedule 'cosin'"),
        ([NAME, line("schedule.k_decay", when={"schedule.name": "own"})], "when.schedule.name: 'own' is not one of"),
        ([line("schedule.k_decay", when={"oialr.delay": 0.1})], "oialr.delay may be any number; give it choices"),
        ([line("schedule.k_decay", when={"schedule.k_decay": 1})], "schedule.k_decay depends on schedule.k_decay;"),
        (
            [line("oialr.delay", times="oialr.cutoff"), line("oialr.cutoff", times="oialr.delay")],
            "oialr.delay depends on oialr.cutoff depends on oialr.delay; take one",
        ),
        ([line("schedule.k_decay", times="schedule.name")], 'times: schedule.name is not always a number: "cosine"'),
        ([line("oialr.cutoff", times="schedule.k_decay")], "search.oialr.cutoff: oialr.cutoff: "),
        (
            [NAME, line("schedule.k_decay", when={"schedule.name": "halving"})],
            '[1].schedule.k_decay: not searched beside its other settings, only when schedule.name: "halving"; remove',
        ),
        (
            [line("schedule.min_lr", times="schedule.lr")],
            "start_from[0]: schedule.min_lr: 1e-05 is 0.002 times schedule",
        ),
    ],
)
def test_a_file_whose_lines_do_not_fit_together_is_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load("vit_digits", changes)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_the_file_decides_where_the_other_is_not_searched() -> None:
    only = line("schedule.k_decay", when={"schedule.name": "cosine"})
    cosine, halving = load("vit_digits", [only]), load("vit_digits", [only, "schedule.name=halving"])
    assert "schedule.k_decay" in cosine.space.parameters and not cosine.space.conditions
    assert halving.space.parameters.keys() == cosine.space.parameters.keys() - {"schedule.k_decay"}
    without = {key: value for key, value in cosine.start_from[1].items() if key != "schedule.k_decay"}
    assert halving.start_from == [{}, without]
    assert cosine.with_settings({"schedule.name": "halving"}).space.parameters.keys() == halving.space.parameters.keys()
    below = line("oialr.cutoff", when={"oialr.keep_last": True})
    choice = "search.oialr.keep_last={choices: [false, true], when: {schedule.name: halving}}"
    chained = load("vit_digits", [choice, below, "start_from=[]"])  # nowhere, so what depends on it is not either
    assert not {"oialr.keep_last", "oialr.cutoff"} & chained.space.parameters.keys()
