"""What the outputs of a model are compared as: texts, labels, numbers of classes, or other numbers."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.rows import sizes_of

Role = Literal["text", "label", "truth", "classes", "numbers"]
"""What an output is compared as. `label`: one whole number per sample, `truth`: one that is true or false. `classes`: the largest of its
numbers names the class."""

_FEWEST_CLASSES = 2
_ROWS_AND_CLASSES = 2
"""Axes of an output that has one number for each class in each row, and no others."""


def roles_of(rows: Tensors, classes: Sequence[str]) -> dict[str, Role]:
    """Return what each output is compared as; the sizes of one are nothing that may differ.

    Raises:
        ParityError: When one that shall hold classes is not there, or has no axis of them.
    """
    grown = [name for name in rows if sizes_of(name) in rows]
    rows = {name: array for name, array in rows.items() if name not in map(sizes_of, grown)}
    for name in classes:
        array = rows.get(name)
        if array is None:
            reason, fix = "is no output of the model", f"Name some of {', '.join(sorted(rows))}."
            raise ParityError("verify.classes", reason, fix, value=name)
        if _role(array) == "numbers" and (array.ndim < _ROWS_AND_CLASSES or array.shape[-1] < _FEWEST_CLASSES):
            reason = f"has one row of shape {list(array.shape[1:])} per sample, and no axis of classes"
            raise ParityError("verify.classes", reason, "Leave it out.", value=name)
    found: dict[str, Role] = {name: _role(array) for name, array in rows.items()}
    for name, role in found.items():
        if role == "numbers" and (name in classes if classes else name not in grown and _is_a_vector(rows[name])):
            found[name] = "classes"
    return found


def of_several_rows(signature: Signature) -> tuple[str, ...]:
    """Return the outputs with classes of a model that takes a fixed number of rows, above 1, as one request."""
    rows = {tensor.shape[0] for tensor in signature.inputs if tensor.shape and tensor.shape[0] > 1}
    return tuple(
        tensor.name
        for tensor in signature.outputs
        if len(tensor.shape) == _ROWS_AND_CLASSES
        and tensor.shape[0] in rows
        and tensor.shape[-1] >= _FEWEST_CLASSES
        and tensor.dtype.startswith("FP")
    )


def _role(array: NDArray[Any]) -> Role:
    """Return what an output is, told from its rows; classes look like other numbers."""
    single = math.prod(array.shape[1:]) == 1
    if array.dtype == np.bool_:
        return "truth" if single else "numbers"
    if not np.issubdtype(array.dtype, np.number):
        return "text"
    return "label" if single and np.issubdtype(array.dtype, np.integer) else "numbers"


def _is_a_vector(array: NDArray[Any]) -> bool:
    """Tell whether each sample has one real number for each of some classes; masks, boxes and tokens have more axes."""
    return (
        array.shape[1:] == array.shape[-1:] and array.shape[-1] >= _FEWEST_CLASSES and np.issubdtype(array.dtype, np.floating)
    )
