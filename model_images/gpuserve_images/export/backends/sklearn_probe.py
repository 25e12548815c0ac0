"""Rows that a scikit-learn model can be asked about before anybody sent one: in columns of categories, such as it knows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.export.backends.model import FREE, Arrays, Port
from gpuserve_images.export.backends.sklearn_columns import column_names, known_categories

ROWS = 2
MOST_COLUMNS = 64
"""Columns of an input that are asked about with a number missing: each takes a question of its own."""


def probe(estimator: Any, inputs: Sequence[Port], columns: Sequence[str]) -> Arrays:
    """Return two rows: of each column a category that is known, else zeros and empty texts.

    Args:
        estimator: The fitted model.
        inputs: What it takes.
        columns: The column that each input is, as the model calls it; empty where the one input is a table.
    """
    known = known_categories(estimator)
    if not columns:
        return {inputs[0].name: _rows(inputs[0], known)}
    places = {name: place for place, name in enumerate(column_names(estimator))}
    told = [{0: known[place]} if (place := places[name]) in known else {} for name in columns]
    return {port.name: _rows(port, first) for port, first in zip(inputs, told, strict=True)}


def missing_pairs(rows: Arrays) -> Iterator[Arrays]:
    """Yield for each column of real numbers two equal rows, the second with that number missing."""
    for name, array in rows.items():
        for column in range(min(array.shape[1], MOST_COLUMNS) if array.dtype.kind == "f" and len(array.shape) > 1 else 0):
            pair = {other: np.repeat(values[:1], 2, axis=0) for other, values in rows.items()}
            pair[name][1, column] = np.nan
            yield pair


def _rows(port: Port, known: Mapping[int, Any]) -> NDArray[Any]:
    shape = tuple(ROWS if dim == FREE else dim for dim in port.shape)
    rows = np.full(shape, "", object) if port.dtype == "object" else np.zeros(shape, port.dtype)
    for place, category in known.items():
        if len(shape) > 1 and place < shape[1] and isinstance(category, str) == (port.dtype == "object"):
            rows[:, place] = category
    return rows
