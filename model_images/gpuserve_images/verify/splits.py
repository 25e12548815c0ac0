"""The numbers at which an ONNX file's trees split and around which its scalers centre: elsewhere a model answers much the same."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.verify.columns import Choice, Column, readers

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_TREES = ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
_LEAF = b"LEAF"
_DEVIATIONS = 2.0
"""How far from a scaler's centre numbers are drawn, in units of its scale: 95 % of what is normally distributed lies there."""

_ENDLESS = 1e30
"""Splits beyond this stand for a missing number."""

MOST = 256
"""Splits of a column that are kept, spread evenly over all."""


def known_splits(graph: "GraphProto") -> dict[Column, Choice]:
    """Return for each column of numbers that trees or scalers read what lies between the splits, and a step beyond the outermost."""
    found: dict[Column, list[float]] = {}
    for node, columns in readers(graph):
        for place, numbers in _numbers(node, len(columns)):
            if (column := columns[place]) is not None:
                found.setdefault(column, []).extend(numbers)
    return {column: choice for column, numbers in found.items() if (choice := _between(numbers))}


def _between(numbers: Sequence[float]) -> Choice | None:
    known = np.unique(np.asarray(numbers, np.float64))
    known = known[np.abs(known) < _ENDLESS]
    if not len(known):
        return None
    step = (known[-1] - known[0]) / (len(known) - 1) if len(known) > 1 else max(1.0, abs(float(known[0])))
    knots = known[np.linspace(0, len(known) - 1, min(len(known), MOST)).round().astype(int)]
    return Choice((float(known[0] - step), *knots.tolist(), float(known[-1] + step)), between=True)


def _numbers(node: "NodeProto", width: int) -> Iterable[tuple[int, Sequence[float]]]:
    """Yield the index of a column and numbers that a node compares it with, or centres it by."""
    given = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Scaler":
        offsets, scales = (list(given[name].floats) if name in given else [] for name in ("offset", "scale"))
        for place in range(width) if offsets and scales else ():
            offset, scale = offsets[place % len(offsets)], scales[place % len(scales)]
            if scale:
                # The outermost are a step beyond, which is as wide again.
                yield place, (offset - _DEVIATIONS / 3 / scale, offset + _DEVIATIONS / 3 / scale)
    elif node.op_type in _TREES:
        places, splits = _splits(given)
        order = np.argsort(places, kind="stable")
        found, starts = np.unique(places[order], return_index=True)
        for place, own in zip(found.tolist(), np.split(splits[order], starts)[1:], strict=True):
            if place < width:
                yield place, own.tolist()


def _splits(given: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the column and the number of each node of trees that is no leaf."""
    from onnx import numpy_helper

    places = np.asarray(given["nodes_featureids"].ints if "nodes_featureids" in given else (), np.int64)
    tensor = next((given[name].t for name in ("nodes_splits", "nodes_values_as_tensor") if name in given), None)
    plain = given["nodes_values"].floats if "nodes_values" in given else ()
    values = np.asarray(plain if tensor is None else numpy_helper.to_array(tensor), np.float64)
    modes = given["nodes_modes"].strings if "nodes_modes" in given else ()
    inner = np.array([mode != _LEAF for mode in modes], bool) if modes else np.ones(len(places), bool)
    if not len(places) == len(values) == len(inner):
        return np.zeros(0, np.int64), np.zeros(0)  # which nothing can run
    return places[inner], values[inner]
