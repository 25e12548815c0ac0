"""Whether an exported model answers rows with missing numbers as its framework does: generated inputs hold none."""

from typing import TYPE_CHECKING, Any

from gpuserve_images.errors import ExportError
from gpuserve_images.samples.codec import Tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMIT = 1e-2
"""Largest difference that is no other answer, as a share of the answer where that is over 1."""


def require_same(source: Tensors, exported: Tensors, where: str) -> None:
    """Refuse an exported model that answers a row with a missing number otherwise, and the same row without gaps alike.

    Args:
        source: Outputs of pairs of rows, a whole one and one with a gap, by the framework.
        exported: The same by ONNX Runtime.
        where: What the error is about: the model's path.

    Raises:
        ExportError: When it does.
    """
    for name, wanted in source.items():
        if wanted.dtype.kind != "f":
            continue
        given = exported[name]
        differs = _differs(wanted, given)
        for row in range(0, len(wanted), 2):
            if differs[row + 1] and not differs[row]:
                values = f"{wanted[row + 1].ravel()[:3].tolist()} became {given[row + 1].ravel()[:3].tolist()}"
                reason = f"answers rows with a missing number otherwise as ONNX: {name} {values}"
                raise ExportError(
                    where, reason, "Begin the model with an imputer, so that gaps are filled before anything else."
                )


def _differs(wanted: "NDArray[Any]", given: "NDArray[Any]") -> "NDArray[Any]":
    import numpy as np

    left, right = (array.astype(np.float64).reshape(len(array), -1) for array in (wanted, given))
    near = np.abs(left - right) <= LIMIT * np.maximum(1.0, np.abs(left))
    return np.asarray(~(near | (np.isnan(left) & np.isnan(right))).all(axis=1))
