"""Which labelled images train and which are held out: stratified, and the same on every platform."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oialr_hpo.mistake import Mistake
from oialr_hpo.tasks.task import Split


def split_for(
    labels: ArrayLike, split: Split, validation_fraction: float, train_images: int | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which training images are trained on, and which are held out for validation.

    A search trains on those that are not held out. For the split `test` all are trained on, since nothing is selected
    any more. `train_images` of them, of each class its share, make a smaller set.

    Raises:
        Mistake: no images are left for one of the two, or fewer than `train_images`.
    """
    labels = np.asarray(labels)
    training, held_out = stratified_split(labels, validation_fraction, seed)
    if split == "test":
        training = np.arange(len(labels))
    elif not (len(training) and len(held_out)):
        part, remedy = ("validation", "raise") if len(training) else ("training", "lower")
        share = f"data.validation_fraction {validation_fraction} of {len(labels)} images"
        raise Mistake(f"{share} leaves none for {part}; {remedy} it")
    if train_images is not None:
        if train_images > len(training):
            raise Mistake(f"data.train_images {train_images} exceeds the {len(training)} training images; lower it")
        training = training[stratified_subset(labels[training], train_images, seed)]
    return training, held_out


def stratified_split(labels: ArrayLike, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out round(`fraction` * N) of N samples, of each class its share (largest remainder).

    The draw depends on labels, fraction and seed alone, not on the platform or NumPy's version.

    Returns:
        (training indices, held-out indices), both ascending; together they are 0..N-1.

    Raises:
        ValueError: the fraction is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction {fraction} to hold out is outside [0, 1)")
    labels = np.asarray(labels)
    held_out = stratified_subset(labels, round(fraction * len(labels)), seed)
    return np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True), held_out


def stratified_subset(labels: ArrayLike, count: int, seed: int) -> NDArray[np.int64]:
    """Draw `count` samples, of each class its share (largest remainder); ascending indices.

    Raises:
        ValueError: `count` is negative or exceeds the samples.
    """
    labels = np.asarray(labels)
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot draw {count} of {len(labels)} samples")
    # RandomState's stream is frozen for good (NEP 19), the one of Generator is not.
    order = np.argsort(np.random.RandomState(seed).random_sample(len(labels)), kind="stable")
    classes, sizes = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(sizes * count, max(len(labels), 1))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    drawn = [order[labels[order] == c][:n] for c, n in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate([*drawn, np.empty(0, np.int64)])).astype(np.int64)
