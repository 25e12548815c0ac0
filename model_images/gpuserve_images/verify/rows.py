"""What a model answers to samples, with one row for each of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.onnx_model.session import Runner
from gpuserve_images.samples.codec import Tensors, batches
from gpuserve_images.verify.differences import ParityError


def answers(runner: Runner, samples: Sequence[Tensors], size: int) -> Tensors:
    """Return a model's outputs with one row per sample; the last batch is filled up, so that every batch has the size that is judged.

    What belongs to no request, such as a detector's constant anchors, has one row per run instead.

    Args:
        runner: The model.
        samples: Requests with a batch of 1.
        size: Batch size to ask at.

    Raises:
        ParityError: When an output has another size for one batch than for another.
        CodecError: When samples of different sizes would have to be joined.
    """
    runs = [runner.run(batch) for batch in batches(samples, size, whole=True)]
    return {name: _joined(name, [_rows(run[name], size) for run in runs])[: len(samples)] for name in runner.outputs}


def _joined(name: str, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1:
        reason = "has another size for one request than for another, so its differences cannot be measured"
        fix = "Use inputs of one size, or export the model with outputs whose size does not follow from values."
        raise ParityError(f"output {name}", reason, fix, value=" and ".join(str(list(shape)) for shape in shapes[:2]))
    return np.concatenate(arrays)


def _rows(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Return an output with one row per request, or with one row where its first axis cannot be shared out evenly."""
    length = array.shape[0] if array.ndim else 0
    if array.shape[:1] == (size,):
        return array
    # Tokens of all requests in one axis, for example, as `view(-1, classes)` makes it.
    if array.ndim and length % size == 0:
        return array.reshape(size, length // size, *array.shape[1:])
    return array[np.newaxis]
