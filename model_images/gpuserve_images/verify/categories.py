"""The categories that an ONNX file's encoders know: other values they refuse, or take for none of what they have learned."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpuserve_images.verify.columns import Choice, Column, readers

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

UNHEARD_OF = "unheard of"
"""What stands for a text that an encoder does not know and takes all the same."""

_LOOKUPS = {
    "OneHotEncoder": ("cats_strings", "cats_int64s"),
    "LabelEncoder": ("keys_strings", "keys_int64s", "keys_floats"),
    "CategoryMapper": ("cats_strings",),
}
"""Operators of ai.onnx.ml that find a value in a list, and the attributes that hold the list."""

_DEFAULTS = ("default_string", "default_int64", "default_float")
_NO_TEXT = "\ufdd0"
"""What the export of an imputer looks for where no text is missing (`export.backends.sklearn_settings`)."""


def known_categories(graph: "GraphProto") -> dict[Column, Choice]:
    """Return the categories of each column; where all its encoders take what they do not know, one such value is among them."""
    found: dict[Column, _Seen] = {}
    for node, columns in readers(graph):
        for column in columns if node.op_type in _LOOKUPS else ():
            if column is not None:
                seen = found.setdefault(column, _Seen())
                seen.values += _listed(node)
                seen.strict = seen.strict or _is_strict(node)
    return {column: Choice(tuple(seen.all())) for column, seen in found.items() if seen.values}


@dataclass
class _Seen:
    """What encoders say of one column."""

    values: list[Any] = field(default_factory=list[Any])
    strict: bool = False

    def all(self) -> Iterator[Any]:
        yield from dict.fromkeys(self.values)
        if not self.strict:
            yield UNHEARD_OF if isinstance(self.values[0], str) else max(self.values) + 1


def _listed(node: "NodeProto") -> list[Any]:
    lists = [attribute for attribute in node.attribute if attribute.name in _LOOKUPS[node.op_type]]
    texts = [text.decode() for attribute in lists for text in attribute.strings]
    numbers = [number for attribute in lists for number in (*attribute.ints, *attribute.floats)]
    return [text for text in texts if text != _NO_TEXT] or numbers


def _is_strict(node: "NodeProto") -> bool:
    """Return whether an encoder fails on what it does not know."""
    given = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "OneHotEncoder":
        return "zeros" in given and not given["zeros"].i
    return node.op_type == "LabelEncoder" and not any(name in given for name in _DEFAULTS)
