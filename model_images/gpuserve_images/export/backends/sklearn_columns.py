"""Columns of a table as a fitted model knows them: what it calls them, which it reads, and what its encoders say of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

Known: TypeAlias = dict[int, Any]
"""A category that the model knows, by the index of its column; an empty text for a column of texts."""
_DROPPED = "drop"


@dataclass(frozen=True)
class Column:
    """A column that a model reads.

    Attributes:
        name: What the model calls it.
        dtype: Its NumPy type; `object` for text.
    """

    name: str
    dtype: str


def named_columns(estimator: Any) -> list[Column]:
    """Return the columns that a model must be given one by one, in its own order; none where it takes them as one table of one type."""
    names = column_names(estimator)
    choices = list(_choices(_first(estimator), len(names)))
    by_name = [any(isinstance(each, str) for each in choice.columns) for choice in choices]
    if not names or not (any(by_name) or table_type(estimator) is None):
        return []
    places: Sequence[int] = range(len(names))
    if by_name and all(by_name):
        # What nobody reads has no type, and nobody who asks need have it. By index, each column has its place.
        places = sorted({place for choice in choices for place in _places(choice, names)})
    known = known_categories(estimator)
    return [Column(names[place], _type(known.get(place, 0.0))) for place in places]


def table_type(estimator: Any) -> str | None:
    """Return `object` where all columns are texts, `float32` where none is, and None where only some are."""
    known = known_categories(estimator)
    texts = sum(isinstance(category, str) for category in known.values())
    if not texts:
        return "float32"
    return "object" if texts == getattr(estimator, "n_features_in_", None) else None


def column_names(estimator: Any) -> list[str]:
    """Return what the model calls its columns; empty where it was fitted on an array."""
    return [str(name) for name in getattr(estimator, "feature_names_in_", ())]


def known_categories(estimator: Any) -> Known:
    """Return the first category of each column, of encoders that see the model's own columns."""
    return _known(_first(estimator), column_names(estimator))


def _known(estimator: Any, columns: Sequence[str]) -> Known:
    estimator = _first(estimator)
    if hasattr(estimator, "transformers_"):
        known: Known = {}
        for choice in _choices(estimator, int(estimator.n_features_in_)):
            places = _places(choice, columns)
            inner = _known(choice.part, [columns[place] for place in places] if columns else [])
            known |= {places[place]: text for place, text in inner.items() if place < len(places)}
        return known
    if isinstance(estimator, CountVectorizer | HashingVectorizer):
        return {0: ""}
    categories: Sequence[Any] = getattr(estimator, "categories_", ())
    return {place: values[0] for place, values in enumerate(categories) if len(values) and values[0] is not None}


def _first(estimator: Any) -> Any:
    """Return the part of a model that sees its columns first; imputers before it keep each column's place."""
    inner = next((found for name in ("best_estimator_", "estimator_") if (found := getattr(estimator, name, None))), None)
    if inner is not None:
        return _first(inner)
    steps = [step for _, step in getattr(estimator, "steps", ()) if step is not None and not isinstance(step, str)]
    if not steps:
        return estimator
    return _first(next((step for step in steps if not hasattr(step, "statistics_")), steps[0]))


@dataclass(frozen=True)
class _Choice:
    """A part of a ColumnTransformer with its columns, by index or name."""

    part: Any
    columns: Sequence[int | str]


def _choices(estimator: Any, count: int) -> Iterator[_Choice]:
    for _, part, chosen in getattr(estimator, "transformers_", ()):
        listed = _listed(chosen, count)
        if listed and not (isinstance(part, str) and part == _DROPPED):
            yield _Choice(part, listed)


def _places(choice: _Choice, columns: Sequence[str]) -> list[int]:
    """Return the indices of columns; those that an earlier step made have none."""
    named = {name: place for place, name in enumerate(columns)}
    return [place for each in choice.columns if (place := named.get(each) if isinstance(each, str) else each) is not None]


def _listed(chosen: Any, count: int) -> list[int | str]:
    """Return a ColumnTransformer's columns one by one, which are chosen by index, by name, by a mask or as a slice."""
    if isinstance(chosen, slice):
        if isinstance(chosen.start or chosen.stop, str):
            return []  # which skl2onnx refuses
        return list(range(*chosen.indices(count)))
    listed = [chosen] if isinstance(chosen, str | int) else list(chosen)
    if listed and all(isinstance(each, bool | np.bool_) for each in listed):
        return [place for place, wanted in enumerate(listed) if wanted]
    return [each if isinstance(each, str) else int(each) for each in listed]


def _type(category: Any) -> str:
    if isinstance(category, str):
        return "object"
    return "int64" if isinstance(category, int | np.integer | np.bool_) else "float32"
