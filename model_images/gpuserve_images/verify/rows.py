"""What a model answers to samples, with one row for each of them."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.onnx_model.session import Runner
from gpuserve_images.samples.codec import Tensors, batches
from gpuserve_images.verify.differences import ParityError

ALONE = "Write `batch: none` in the model's YAML"
"""How to have each request run by itself, in fixes."""


def sizes_of(name: str) -> str:
    """Return under which name the sizes of an output stand, where they follow from values; no output has spaces in its own."""
    return f"sizes of {name}"


def answers(
    runner: Runner, samples: Sequence[Tensors], size: int, *, batched: bool = False, grown: Collection[str] | None = None
) -> Tensors:
    """Return a model's outputs with one row per sample; the last batch is filled up, so that every batch has the size that is judged.

    What belongs to no request, such as a detector's constant anchors, has one row per run instead. Where each request runs alone, an output
    may have another size for one than for another, such as the boxes that were found: rows are filled up then, with nothing, and their
    sizes stand beside them (`sizes_of`).

    Args:
        runner: The model.
        samples: Requests with a batch of 1.
        size: Batch size to ask at.
        batched: Whether every output must have exactly one row for each request of a batch, as servers that join requests take for
            granted. Default: no.
        grown: Outputs whose sizes follow from values, and no others. Default: those of which that is seen.

    Raises:
        ParityError: When an output has another size for one batch than for another and may not, or other rows than one for each request.
        CodecError: When samples of different sizes would have to be joined.
    """
    runs = [runner.run(batch) for batch in batches(samples, size)]
    if batched:
        _require_a_row_each(runs, size)
    found: Tensors = {}
    for name in runner.outputs:
        arrays = [run[name] for run in runs]
        if size == 1 and not batched and (_grows(arrays) if grown is None else name in grown):
            found |= _filled_up(name, arrays)
        else:
            found[name] = _joined(name, [_rows(array, size) for array in arrays])[: len(samples)]
    return found


def _grows(arrays: Sequence[NDArray[Any]]) -> bool:
    return len({array.shape for array in arrays}) > 1 and len({array.ndim for array in arrays}) == 1


def _filled_up(name: str, arrays: Sequence[NDArray[Any]]) -> Tensors:
    shapes = np.array([array.shape for array in arrays])
    rows = np.full((len(arrays), *shapes.max(axis=0)), "" if arrays[0].dtype == np.object_ else 0, dtype=arrays[0].dtype)
    for row, array in zip(rows, arrays, strict=True):
        row[tuple(slice(length) for length in array.shape)] = array
    return {sizes_of(name): shapes, name: rows}


def _require_a_row_each(runs: Sequence[Tensors], size: int) -> None:
    for name, array in ((name, array) for run in runs for name, array in run.items()):
        if array.shape[:1] != (size,):
            reason = (
                f"has not one row for each request of a batch: it answers {size} with the shape {list(array.shape)}, of which a server "
                "would give each client another's rows, or too few"
            )
            fix = (
                f"{ALONE}, and each request runs by itself; else export the model with the batch as first axis of every output."
            )
            raise ParityError(f"source model, output {name}", reason, fix)


def _joined(name: str, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1:
        reason = "has another size for one request than for another, so its differences cannot be measured"
        fix = f"{ALONE}, use inputs of one size, or export the model with outputs whose size does not follow from values."
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
