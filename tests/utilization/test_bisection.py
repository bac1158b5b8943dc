"""Bisection finds the border, in as few tests as bisection takes."""

import math

from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.utilization.bisection import smallest


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500))
def test_bisection_finds_the_border_with_and_without_a_guess(size: int, border: int, guess: int) -> None:
    border, guess, tried = min(border, size), min(guess, size), list[int]()

    def holds(k: int) -> bool:
        tried.append(k)
        return k >= border

    assert smallest(holds, size) == border
    assert len(tried) <= math.ceil(math.log2(size)) and len(set(tried)) == len(tried)
    tried.clear()
    assert smallest(holds, size, guess) == border
    assert len(tried) <= math.ceil(math.log2(size)) + 1 and all(0 < k < size for k in tried)
