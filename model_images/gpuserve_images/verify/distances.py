"""How far tensors are apart."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.samples.codec import Tensors

OTHER = 0.1
"""A difference over this share of an output's largest value is another answer, in whatever unit: chances of a click, or metres, may all be
below 1e-4."""

NOISE = 1e-6
"""Up to this a difference may be what FP32 leaves of numbers around 1 that cancel out (some steps of 2**-23), so it is no other answer."""


def differences(got: NDArray[Any], want: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far values are apart; of whole numbers exactly, since those over 2**53 are no doubles."""
    if got.dtype != want.dtype or want.dtype.kind not in "iu":
        return np.abs(got.astype(np.float64) - want.astype(np.float64))
    # What runs over on the way comes back: the distance itself fits.
    return (np.maximum(got, want).astype(np.uint64) - np.minimum(got, want).astype(np.uint64)).astype(np.float64)


def scaled(absolute: float, largest: float) -> float:
    """Return a difference as a share of the largest value, where this is more than 1 or the difference makes it another answer.

    Whole numbers have none: they are not rounded, so what is off by one is another answer, however large it is.
    """
    other = absolute > max(OTHER * largest, NOISE) and largest > 0
    return min(absolute / (largest if other else max(1.0, largest)), sys.float_info.max)


def least_cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return the least cosine similarity of two rows; a single number has none but its sign, so all rows together are one then.

    A row of zeros has no direction either. Where one of two is, they are as far apart as rows of the largest length would be that differ
    by the other one.
    """
    if left.shape[1] == 1:
        left, right = left.T, right.T
    # Squares of values over 1e154 are infinite.
    largest = np.maximum(np.abs(left).max(axis=1, initial=0.0), np.abs(right).max(axis=1, initial=0.0))
    scale = np.where(largest == 0, 1.0, largest)[:, np.newaxis]
    left, right = left / scale, right / scale
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    beside = 1 - (largest / max(float(largest.max(initial=0.0)), sys.float_info.min)) ** 2 / 2
    similarity = np.where(norms == 0, beside, (left * right).sum(axis=1) / np.where(norms == 0, 1.0, norms))
    similarity = np.where((left == right).all(axis=1), 1.0, similarity)
    return float(np.clip(similarity, -1, 1).min(initial=1.0))


def spread(answers: Sequence[Tensors]) -> float:
    """Return the largest difference between answers to the same samples."""
    first = answers[0]
    differences = [
        float(np.abs(other[name].astype(np.float64) - first[name]).max(initial=0.0))
        for other in answers[1:]
        for name in first
        # What belongs to no request has other rows at another size.
        if np.issubdtype(first[name].dtype, np.number) and first[name].shape == other[name].shape
    ]
    return max(differences, default=0.0)
