"""The columns of an ONNX file's inputs, followed as far as they are handed on unchanged: what reads them tells what they may be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

Column: TypeAlias = tuple[str, int]
"""An input and the index of a column of it."""

_Held: TypeAlias = list[Column | None]
"""What each column of a tensor is; None for what a node computed."""

_Constants: TypeAlias = "Mapping[str, TensorProto]"

WIDEST = 65_536
"""Columns that are followed: a table that is wider is no table, but a picture or a sound."""

_TABLE = 2
"""Dimensions of a tensor with columns."""


@dataclass(frozen=True)
class Choice:
    """What a column may be.

    Attributes:
        options: One of these, or
        between: whatever lies between two neighbours of them.
    """

    options: tuple[Any, ...]
    between: bool = False

    def pick(self, share: float) -> Any:
        """Return a value by a random number in [0, 1); between neighbours, each gap is as likely as any other."""
        if not self.between:
            return self.options[int(share * len(self.options))]
        place, rest = divmod(share * (len(self.options) - 1), 1)
        low, high = self.options[int(place)], self.options[int(place) + 1]
        return low + rest * (high - low)

    def fitting(self, dtype: "np.dtype[Any]") -> "Choice | None":
        """Return the choice as values of an input's own type; None where none of them is one, or they tell nothing more than the type.

        A graph casts between numbers and texts before it looks them up, so an encoder's texts may be an input's numbers.
        """
        if dtype.kind == "b":
            return None
        if self.between:
            return self
        found = dict.fromkeys(value for option in self.options if (value := _value(option, dtype)) is not None)
        return Choice(tuple(found)) if found else None


def whole_numbers(dtype: "np.dtype[Any]") -> tuple[float, float]:
    """Return the least and the largest number of a type of whole numbers; between -2**53 and 2**53 each is a double, and no further."""
    information = np.iinfo(dtype)
    return max(float(information.min), -(2.0**53)), min(float(information.max), 2.0**53)


def _value(option: Any, dtype: "np.dtype[Any]") -> Any:
    """Return an option as a value of a type, or None."""
    if dtype.kind == "O":
        return str(option)
    try:
        if dtype.kind == "f":
            return float(option)
        number = int(option)
    except (OverflowError, ValueError):
        return None
    information = np.iinfo(dtype)
    same = str(number) == option if isinstance(option, str) else number == option
    return number if same and information.min <= number <= information.max else None


def widths(graph: "GraphProto") -> dict[str, int]:
    """Return how many columns each input has, where it is a table or a list."""
    found = {value.name: _width(value.type.tensor_type.shape.dim) for value in graph.input}
    return {name: width for name, width in found.items() if width}


def readers(graph: "GraphProto") -> "Iterator[tuple[NodeProto, _Held]]":
    """Yield each node that reads columns, with those that its first input holds."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    held: dict[str, _Held] = {name: [(name, place) for place in range(width)] for name, width in widths(graph).items()}
    for node in graph.node:  # in the order in which they are run
        given = [held.get(name, []) for name in node.input]
        if given and any(given[0]):
            yield node, given[0]
        rule = _HANDED_ON.get(node.op_type)
        if rule is not None and given:
            held[node.output[0]] = rule(node, given, constants)


def _width(axes: Sequence[Any]) -> int:
    width = 1 if len(axes) == 1 else axes[1].dim_value if len(axes) == _TABLE else 0
    return width if width <= WIDEST else 0


def _same(_node: "NodeProto", given: list[_Held], _constants: _Constants) -> _Held:
    return given[0]


def _computed(_node: "NodeProto", given: list[_Held], _constants: _Constants) -> _Held:
    return [None] * len(given[0])


def _reshaped(node: "NodeProto", given: list[_Held], constants: _Constants) -> _Held:
    if len(given[0]) == 1:
        return given[0]
    # An encoder's output becomes a table of a width that is written down.
    shape = _numbers(constants.get(node.input[1])) if len(node.input) > 1 else []
    return [None] * max(0, shape[-1]) if len(shape) == _TABLE and shape[-1] <= WIDEST else []


def _chosen(node: "NodeProto", given: list[_Held], constants: _Constants) -> _Held:
    places = _numbers(constants.get(node.input[1])) if _axis(node) in (1, -1) else []
    return [given[0][place] for place in places] if all(-1 < place < len(given[0]) for place in places) else []


def _joined(node: "NodeProto", given: list[_Held], _constants: _Constants) -> _Held:
    known = _axis(node) in (1, -1) and all(given) and sum(map(len, given)) <= WIDEST
    return [column for part in given for column in part] if known else []


def _filled(_node: "NodeProto", given: list[_Held], _constants: _Constants) -> _Held:
    """Return the columns of a `Where`, which fills in what is missing."""
    return given[2] or given[1]


_HANDED_ON: "dict[str, Callable[[NodeProto, list[_Held], _Constants], _Held]]" = {
    **dict.fromkeys(("Identity", "Cast", "Imputer"), _same),
    **dict.fromkeys(("Scaler", "LabelEncoder", "CategoryMapper", "Normalizer"), _computed),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshaped),
    **dict.fromkeys(("Gather", "ArrayFeatureExtractor"), _chosen),
    "Concat": _joined,
    "Where": _filled,
}
"""What the first output of an operator holds, by what its inputs hold; empty where not even its width is known."""


def _numbers(tensor: "TensorProto | None") -> list[int]:
    from onnx import numpy_helper

    return [] if tensor is None else [int(number) for number in numpy_helper.to_array(tensor).reshape(-1)]


def _axis(node: "NodeProto") -> int:
    """Return the axis of a node; an ArrayFeatureExtractor has the last one, a Gather without one the first."""
    default = -1 if node.op_type == "ArrayFeatureExtractor" else 0
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), default)
