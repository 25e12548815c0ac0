"""What a scikit-learn model takes: one table of one type, or its columns one by one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuserve_images.export.backends.model import FREE, FailureError, Port, WishedInput, Wishes
from gpuserve_images.export.backends.sklearn_columns import Column, column_names, named_columns, table_type
from gpuserve_images.export.backends.sklearn_texts import vectorizers

NUMPY_TYPES = {
    "float32": "FloatTensorType",
    "float64": "DoubleTensorType",
    "int64": "Int64TensorType",
    "object": "StringTensorType",
}
"""skl2onnx's types by NumPy's."""


_UNFIT = re.compile(r"[^A-Za-z0-9_.:/-]+")
"""What no name of an input holds (`gpuserve_images.export.spec.TENSOR_NAME`)."""


@dataclass(frozen=True)
class Taken:
    """What a model takes.

    Attributes:
        ports: Its inputs.
        columns: What the model calls the column that each input is; empty where the one input is a table.
        note: What was chosen by itself.
    """

    ports: list[Port]
    columns: list[str] = field(default_factory=list[str])
    note: str | None = None


def what_it_takes(estimator: Any, wishes: Wishes, outputs: Sequence[str]) -> Taken:
    """Return what a fitted model takes, as it is wished or, without a wish, as the model knows it.

    Args:
        estimator: The model.
        wishes: What the user said.
        outputs: Names of its outputs, which no input can have.

    Raises:
        FailureError: When the model cannot be given what is wished, or does not say enough.
    """
    for wish in wishes.inputs:
        if wish.dtype not in NUMPY_TYPES:
            reason = "is a type that scikit-learn models are not exported with"
            raise FailureError(reason, "Use FP32, FP64, INT64 or BYTES.", value=f"{wish.name}: {wish.dtype}")
    named = named_columns(estimator)
    if len(wishes.inputs) > 1 or (named and wishes.inputs):
        return _wished_columns(estimator, wishes, [column.name for column in named])
    if named:
        ports = [Port(name, column.dtype, (FREE, 1)) for name, column in zip(_names(named, outputs), named, strict=True)]
        told = ", ".join(f"{port.name} {port.dtype.replace('object', 'text')}" for port in ports)
        return Taken(
            ports, [column.name for column in named], f"takes its columns one by one, typed as its encoders know them: {told}"
        )
    return Taken([_table(estimator, wishes)])


def _wished_columns(estimator: Any, wishes: Wishes, read: list[str]) -> Taken:
    names = column_names(estimator)
    own = read if len(read) == len(wishes.inputs) else names
    if not own or len(own) != len(wishes.inputs):
        reason = f"was fitted on {'columns ' + ', '.join(read or names) if names else 'an array without column names'}"
        fix = "Declare one input per column, in this order." if names else "Declare one input."
        raise FailureError(reason, fix, value=", ".join(wish.name for wish in wishes.inputs))
    wished = wishes.inputs_of(own)
    for wish in wished:
        if wish.shape not in (None, (FREE, 1)):
            reason = "is one column of several, and export.inputs gives it another shape"
            raise FailureError(reason, "Write shape: [-1, 1].", value=f"{wish.name}: {list(wish.shape)}")
    return Taken([Port(wish.name, wish.dtype, (FREE, 1)) for wish in wished], own)


def _names(columns: list[Column], outputs: Sequence[str]) -> list[str]:
    """Return names that a request can carry: `petal width (cm)` becomes `petal_width_cm`, and `label` becomes `label_`."""
    names = [_UNFIT.sub("_", column.name).strip("_") for column in columns]
    names = [name if name[:1].isalpha() else f"_{name}" for name in names]
    names = [f"{name}_" if name in outputs else name for name in names]
    unfit = [column.name for column, name in zip(columns, names, strict=True) if names.count(name) > 1 or name == "_"]
    if unfit:
        reason = "has columns whose names no request can carry or tell apart"
        fix = f"Name them anew in `export.inputs`, in this order: {', '.join(column.name for column in columns)}."
        raise FailureError(reason, fix, value=", ".join(unfit))
    return names


def _table(estimator: Any, wishes: Wishes) -> Port:
    count = getattr(estimator, "n_features_in_", None)
    texts = count is None and bool(vectorizers(estimator))
    kind = "object" if texts else table_type(estimator)
    if kind is None and not wishes.inputs:
        reason = "was fitted on texts and numbers in one array without column names"
        raise FailureError(reason, "Fit it on a table with named columns (a pandas DataFrame), and save it again.")
    wish = wishes.inputs[0] if wishes.inputs else WishedInput("input", kind or "float32")
    if texts and wish.dtype != "object":
        reason = "takes texts, and export.inputs says numbers"
        raise FailureError(reason, "Write `dtype: BYTES` and `shape: [-1, 1]`, or leave `export.inputs` out.", value=wish.name)
    if count is None and wish.shape is None and not texts:
        reason = "does not say how many features it takes"
        raise FailureError(reason, "Declare `export: {inputs: [{name: input, shape: [-1, FEATURES]}]}`.")
    shape = (FREE, int(count)) if count is not None else wish.shape or (FREE, 1)
    if wish.shape is not None and wish.shape != shape:
        reason = f"takes {count} features, and export.inputs says otherwise"
        raise FailureError(reason, f"Write shape: [-1, {count}].", value=str(list(wish.shape)))
    return Port(wish.name, wish.dtype, shape)
