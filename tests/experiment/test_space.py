import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.experiment.space import Choice, FloatRange, IntRange, Space, SpaceError, parse_parameter

genes = st.floats(0, 1)
floats = st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).filter(lambda p: p[0] * 1.001 < p[1])
ints = st.tuples(st.integers(1, 500), st.integers(501, 1000))


@given(floats, st.booleans(), genes)
def test_floats_stay_in_range_and_come_back(bounds: tuple[float, float], log: bool, gene: float) -> None:
    parameter = FloatRange(*bounds, log)
    value = parameter.decode(gene)
    assert bounds[0] <= value <= bounds[1]
    assert math.isclose(parameter.decode(parameter.encode(value)), value, rel_tol=1e-9)


@given(ints, st.booleans(), genes)
def test_whole_numbers_come_back_exactly(bounds: tuple[int, int], log: bool, gene: float) -> None:
    parameter = IntRange(*bounds, log)
    value = parameter.decode(gene)
    assert bounds[0] <= value <= bounds[1]
    assert parameter.decode(parameter.encode(value)) == value


@given(
    st.lists(
        st.one_of(st.booleans(), st.integers(-5, 5), st.text(max_size=3)), min_size=1, unique_by=lambda v: (type(v), v)
    )
)
def test_every_choice_comes_back(values: list[bool | int | str]) -> None:
    parameter = Choice(tuple(values))
    for value in values:
        decoded = parameter.decode(parameter.encode(value))
        assert decoded == value and type(decoded) is type(value)


def test_each_whole_number_owns_an_equal_share() -> None:
    parameter = IntRange(1, 4)
    drawn = [parameter.decode((i + 0.5) / 1000) for i in range(1000)]
    assert [drawn.count(value) for value in (1, 2, 3, 4)] == [250] * 4


@given(st.floats(allow_nan=False))
def test_a_space_clips_genes(gene: float) -> None:
    space = Space({"a": FloatRange(1, 2), "b": IntRange(3, 5), "c": Choice((None, "x"))})
    settings = space.decode(dict.fromkeys("abc", gene))
    assert 1 <= settings["a"] <= 2 and settings["b"] in (3, 4, 5) and settings["c"] in (None, "x")  # type: ignore[operator]


def test_encode_names_the_setting_that_does_not_fit() -> None:
    with pytest.raises(SpaceError, match=r"a: 3 lies outside the range \[1, 2\]"):
        Space({"a": FloatRange(1, 2)}).encode({"a": 3})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"float": [2, 1]}, "reversed; write [1, 2]"),
        ({"float": [1, 1]}, "empty"),
        ({"int": [1.5, 3]}, "whole numbers"),
        ({"float": [1, "x"]}, "must be numbers"),
        ({"float": [0, 1], "log": True}, "must start above zero"),
        ({"float": [0, 1], "log": 1}, "not true or false"),
        ({"float": [0]}, "two bounds"),
        ({"float": [0, math.inf]}, "must be numbers"),
        ({"choices": []}, "at least one"),
        ({"choices": [1, 1]}, "twice"),
        ({"choices": [1, 2], "log": True}, "no log scale"),
        ({"flaot": [0, 1]}, "unknown key 'flaot'"),
        ({"float": [0, 1], "int": [0, 1]}, "not a range"),
        ("abc", "not a range"),
    ],
)
def test_a_line_that_makes_no_sense_says_so(spec: object, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_parameter(spec)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@given(st.one_of(floats.map(lambda b: {"float": list(b), "log": True}), ints.map(lambda b: {"int": list(b)})))
def test_a_line_survives_being_written(spec: dict[str, object]) -> None:
    assert parse_parameter(spec).spec() == spec
