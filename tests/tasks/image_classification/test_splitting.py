import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo.tasks.image_classification.splitting import stratified_split, stratified_subset

FIXED = [0, 7, 13, 16, 19, 22, 25, 30]
labels_lists = st.lists(st.integers(0, 6), max_size=200)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(labels_lists, st.floats(0, 0.99), seeds)
def test_stratified_split_is_an_exact_partition(labels: list[int], fraction: float, seed: int) -> None:
    train, held_out = stratified_split(labels, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all() and (np.diff(held_out) > 0).all()
    assert len(held_out) == round(fraction * len(labels))
    for c in set(labels):
        share = labels.count(c) * len(held_out) / len(labels)
        assert abs(sum(labels[i] == c for i in held_out) - share) < 1
    again = stratified_split(labels, fraction, seed)
    np.testing.assert_array_equal(held_out, again[1])


@settings(max_examples=60, deadline=None)
@given(labels_lists, st.data(), seeds)
def test_stratified_subset_draws_each_class_its_share(labels: list[int], data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, len(labels)))
    chosen = stratified_subset(labels, count, seed)
    assert len(set(chosen.tolist())) == count
    for c in set(labels):
        assert abs(sum(labels[i] == c for i in chosen) - labels.count(c) * count / len(labels)) < 1


def test_stratified_split_is_fixed_for_good() -> None:
    labels = np.arange(40) % 4
    held_out = stratified_split(labels, 0.2, seed=7)[1]
    assert held_out.tolist() == FIXED
    assert stratified_split(labels, 0.2, seed=8)[1].tolist() != FIXED
    assert np.bincount(labels[held_out]).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_stratified_split_refuses_other_fractions(fraction: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        stratified_split([0, 1], fraction, 0)


def test_stratified_subset_refuses_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="cannot draw 3 of 2"):
        stratified_subset([0, 1], 3, 0)
