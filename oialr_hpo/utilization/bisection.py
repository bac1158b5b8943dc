"""The smallest subspaces of a layer that the accuracy needs, by bisection (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from oialr_hpo.utilization.full_passes import FullPasses
from oialr_hpo.utilization.partial_passes import PartialPasses
from oialr_hpo.utilization.subspace import Subspace

Judge = FullPasses | PartialPasses
"""Tells how accurate the network is with a layer's present weight."""
ROUNDING = 1e-9


def dimensions(
    weight: Tensor,
    spaces: tuple[Subspace, Subspace],
    judge: Judge,
    accuracy: float,
    tolerance: float,
    put: Callable[[Tensor], None],
    hint: tuple[float, float] | None,
) -> tuple[int, int, float]:
    """k_S, k_T and the accuracy with both projections; leaves the projected weight in place.

    Args:
        weight: W (m x d).
        spaces: of its inputs and of its outputs.
        judge: of the network that `put` gives a weight to.
        accuracy: in percent, before; each projection may cost `tolerance` of it.
        hint: shares of energy that a layer of this kind needed before; None: there was none.
    """
    inputs, outputs = spaces
    guesses = (inputs.dimension(hint[0]), outputs.dimension(hint[1])) if hint else (None, None)
    onto_inputs = inputs.projections(weight.t())
    k_s, accuracy = _dimension(
        lambda k: put(onto_inputs(k).t()), weight.shape[1], judge, accuracy, tolerance, guesses[0]
    )
    onto_outputs = outputs.projections(onto_inputs(k_s).t())
    k_t, accuracy = _dimension(lambda k: put(onto_outputs(k)), weight.shape[0], judge, accuracy, tolerance, guesses[1])
    return k_s, k_t, accuracy


def _dimension(
    project: Callable[[int], None],
    size: int,
    judge: Judge,
    accuracy: float,
    tolerance: float,
    guess: int | None,
) -> tuple[int, float]:
    """The smallest k whose projection costs at most the tolerance, left in place, and the accuracy with it."""
    floor, measured = accuracy - tolerance, dict[int, float]()

    def holds(k: int) -> bool:
        project(k)
        measured[k] = judge.accuracy(floor)
        return measured[k] >= floor - ROUNDING

    k = smallest(holds, size, guess)
    project(k)
    return k, judge.settled(measured[k]) if k < size else accuracy


def smallest(holds: Callable[[int], bool], size: int, guess: int | None = None) -> int:
    """The smallest k in 1..size that holds, by bisection; `size` itself holds.

    What holds for k is taken to hold above it. With a guess, its surroundings are tried first, where that saves tests;
    inside them bisection goes the way it would go without.
    """
    fails, works = 0, size
    if guess is not None and guess < size:
        above, below = 2 * guess, 2 * guess - size
        if 4 * above <= size:
            fails, works = (fails, above) if holds(above) else (above, works)
        elif 4 * below >= 3 * size:
            fails, works = (below, works) if not holds(below) else (fails, below)
    low, high = 1, size
    while low < high:
        middle = (low + high) // 2
        if middle >= works or (middle > fails and holds(middle)):
            high = middle
        else:
            low = middle + 1
    return low
