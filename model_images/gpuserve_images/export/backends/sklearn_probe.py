"""Rows that a scikit-learn model can be asked about before anybody sent one: in columns of categories, such as it knows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.export.backends.model import FREE, Arrays, Port

_Known: TypeAlias = dict[int, Any]
"""A category that the model knows, by the index of its column."""
ROWS = 2
MOST_COLUMNS = 64
"""Columns of an input that are asked about with a number missing: each takes a question of its own."""


def probe(estimator: Any, inputs: Sequence[Port]) -> Arrays:
    """Return two rows: of each column a category that is known, else zeros and empty texts."""
    known = _known(estimator, [str(name) for name in getattr(estimator, "feature_names_in_", ())])
    if len(inputs) == 1:
        return {inputs[0].name: _rows(inputs[0], known)}
    return {port.name: _rows(port, {0: known[place]} if place in known else {}) for place, port in enumerate(inputs)}


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


def _known(estimator: Any, columns: Sequence[str]) -> _Known:
    """Return the first category of each column, of encoders that see the model's own columns."""
    inner = next((found for name in ("best_estimator_", "estimator_") if (found := getattr(estimator, name, None))), None)
    if inner is not None:
        return _known(inner, columns)
    if hasattr(estimator, "steps"):
        return _known(estimator.steps[0][1], columns)
    if hasattr(estimator, "transformers_"):
        known: _Known = {}
        for _, part, chosen in estimator.transformers_:
            places = _places(chosen, columns, int(estimator.n_features_in_))
            known |= {places[place]: text for place, text in _known(part, []).items() if place < len(places)}
        return known
    categories: Sequence[Any] = getattr(estimator, "categories_", ())
    return {place: values[0] for place, values in enumerate(categories) if len(values) and values[0] is not None}


def _places(chosen: Any, columns: Sequence[str], count: int) -> list[int]:
    """Return the indices of a ColumnTransformer's columns, which are chosen by index, by name, by a mask or as a slice."""
    if isinstance(chosen, slice):
        if isinstance(chosen.start or chosen.stop, str):
            return []  # which skl2onnx refuses
        return list(range(*chosen.indices(count)))
    listed = [chosen] if isinstance(chosen, str | int) else list(chosen)
    if listed and all(isinstance(each, bool | np.bool_) for each in listed):
        return [place for place, wanted in enumerate(listed) if wanted]
    return [columns.index(each) if isinstance(each, str) else int(each) for each in listed]
