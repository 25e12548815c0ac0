"""Whether the rows of a batch are answered by themselves, as they must be where requests of several clients share one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.spec import FP32_SCALED_ERROR

LARGE = 0.1
"""Share of the length of an output's largest row, or of the texts of a row. Rounding is far below it, FP16's too (0.0005), and so is what
dynamic quantisation makes of a batch, whose range it takes from all rows: that moves a row by some hundredths at most."""

MOST = 0.5
"""Share of the samples that must be answered otherwise: a label that is nearly two changes for a few, whatever the batch."""

_FIX = (
    "Write `batch: none` where the first axis is no batch but, say, the points of a cloud or the samples of a sound; else export the model "
    "for inference, without dropout and with fixed statistics."
)


@dataclass(frozen=True)
class Mixed:
    """An output whose rows follow from what else is in the batch.

    Attributes:
        output: Its name.
        sizes: Two batch sizes at which its answers to the same samples differ.
        samples: How many samples differ.
    """

    output: str
    sizes: tuple[int, int]
    samples: int


def require_apart(answers: Mapping[int, Tensors], samples: int, *, batched: bool) -> None:
    """Refuse a model whose answer to one request follows from the others in its batch: a server would mix those of its clients.

    Args:
        answers: The model's outputs of the same samples, by batch size.
        samples: How many samples there are.
        batched: Whether each row is known to be one sample's.

    Raises:
        ParityError: Naming an output, two batch sizes, and how many samples are answered otherwise.
    """
    mixed = mixed_rows(answers, batched=batched)
    if mixed is not None:
        one, other = mixed.sizes
        reason = (
            f"answers {mixed.samples} of {samples} samples otherwise in a batch of {other} than in one of {one}, by far more than rounding: "
            "its rows depend on each other, or on chance"
        )
        raise ParityError(f"source model, output {mixed.output}", reason, _FIX)


def mixed_rows(answers: Mapping[int, Tensors], *, batched: bool = False) -> Mixed | None:
    """Return an output whose answers to most samples differ by far more than rounding from one batch size to another, or None.

    Args:
        answers: A model's outputs of the same samples, one row each, by batch size.
        batched: Whether each row is known to be one sample's: then one of another length is another answer. Default: no.
    """
    if not answers:
        return None
    smallest = min(answers)
    for size, tensors in answers.items():
        for name, array in tensors.items():
            first = answers[smallest][name]
            if batched and array.shape != first.shape:
                return Mixed(name, (smallest, size), len(array))
            # Rows that are no samples cannot be told apart here.
            if array.shape != first.shape or not array.size:
                continue
            differing = int(_differing(first, array).sum())
            if differing > MOST * len(array):
                return Mixed(name, (smallest, size), differing)
    return None


def _differing(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows are another answer, each as a whole: of a mask some points of a million change with rounding alone."""
    rows = left.reshape(len(left), -1), right.reshape(len(right), -1)
    if left.dtype.kind not in "fiub":
        return (rows[0] != rows[1]).mean(axis=1) > LARGE
    if left.dtype.kind in "iu" and rows[0].shape[1] == 1:
        # A label: the numbers of two classes may be near each other, and are no less another answer.
        return rows[0][:, 0] != rows[1][:, 0]
    real = rows[0].astype(np.float64), rows[1].astype(np.float64)
    # Squares of the largest doubles are infinite.
    scale = max(1.0, *(float(np.abs(values).max()) for values in real))
    lengths = [np.linalg.norm(values / scale, axis=1) for values in (*real, real[0] - real[1])]
    largest = max(lengths[0].max(), lengths[1].max())
    return lengths[2] > max(LARGE * largest, FP32_SCALED_ERROR / scale * np.sqrt(rows[0].shape[1]))
