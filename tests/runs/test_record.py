"""Whatever a task measures or an objective yields becomes plain numbers, or an error that names the metric."""

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.runs.record import RESERVED, RecordError, key, metrics, plain


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (torch.tensor(0.5), 0.5),
        (torch.tensor([[0.5]]), 0.5),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (torch.tensor(3), 3),
        (torch.tensor(True), 1),
        (torch.nn.Parameter(torch.ones(1)), 1.0),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), 1),
        (np.array([0.5]), 0.5),
        (np.array(Decimal("0.5")), 0.5),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 2), 0.5),
        (True, 1),
        (2**70, 2**70),
        (math.inf, math.inf),
    ],
)
def test_what_is_a_number_becomes_pythons(value: Any, number: float) -> None:
    for made in (metrics({"error": value})["error"], plain({"error": value})["error"]):
        assert made == number and type(made) is type(number)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (torch.zeros(3), "a Tensor of shape (3,), not a number"),
        (torch.zeros(0), "a Tensor of shape (0,), not a number"),
        (torch.tensor(1j), "a Tensor, not a number"),
        (torch.zeros((), device="meta"), "a Tensor, not a number"),
        (np.array(["x"]), "a ndarray of shape (1,), not a number"),
        (np.datetime64("2020-01-01"), "a datetime64, not a number"),
        (Decimal("sNaN"), "a Decimal, not a number"),
        (10**400, "too large for a number"),
        ("0.5", "the text '0.5', not a number"),
        ("\ud800" * 1000, "the text '"),
        (b"0.5", "a bytes, not a number"),
        (None, "None, not a number"),
        ([0.5], "a list, not a number"),
        ({"a": 0.5}, "a dict, not a number"),
        (float, "a type, not a number"),
    ],
)
def test_what_is_no_number_is_named(value: Any, what: str) -> None:
    for make in (metrics, plain):
        with pytest.raises(RecordError) as raised:
            make({"loss": 0.5, "error": value})
        assert str(raised.value).startswith(f"the metric 'error' is {what}") and len(str(raised.value)) < 250


@given(st.dictionaries(st.text() | st.sampled_from(sorted(RESERVED)), st.floats() | st.integers() | st.none()))
def test_any_dict_is_plain_or_refused(content: dict[str, Any]) -> None:
    for make in (metrics, plain):
        try:
            made = make(content)
        except RecordError as error:
            assert str(error)
        else:
            assert len(made) == len(content) and set(map(type, made.values())) <= {int, float}
            assert json.loads(json.dumps(made)).keys() == made.keys() and all(map(str.isprintable, made))


def test_a_tasks_metrics_never_take_the_place_of_what_is_said_of_the_trial() -> None:
    measured = metrics({"seconds": 1, "epoch": 2, "state": 3, "task_state": 4, "error": 5})
    assert measured == {"task_seconds": 1, "task_epoch": 2, "task_task_state": 3, "task_state": 4, "error": 5}
    record = {"seconds": 100.0, "error": 5, "task_error": 6} | measured
    assert [record[key(record, name)] for name in ("seconds", "error", "task_error")] == [1, 5, 6]
    assert key({"seconds": 100.0}, "seconds") == "seconds"


def test_an_objective_may_say_what_the_training_loop_says() -> None:
    record = {"epoch": torch.tensor(2), "ranks": {"a": np.int64(3)}, "device": "cpu", "seconds": 1.5, "number": 7}
    assert plain(record) == {"epoch": 2, "ranks": {"a": 3}, "device": "cpu", "seconds": 1.5, "task_number": 7}
    for epoch in (0, -1, 1.5, math.nan, math.inf, "one"):
        with pytest.raises(RecordError, match="the metric 'epoch' is .*"):
            plain({"epoch": epoch})
