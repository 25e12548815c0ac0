"""The tables that an ONNX file looks its inputs of whole numbers up in: values beyond them it cannot take."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.onnx_model.files import load

if TYPE_CHECKING:
    from onnx import GraphProto

_SAME_VALUES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand"})
"""Operators that hand an index on as it is."""


def table_sizes(path: Path) -> dict[str, int]:
    """Return how many values each integer input of an ONNX file may have, where the graph tells: it looks them up in a table.

    A text model's token ids are rows of its embedding table, so values from 0 up to the table's rows are what it can take.

    Raises:
        SourceError: When the file is no whole ONNX model.
    """
    graph = load(path).graph
    sizes = _table_rows(graph)
    found: dict[str, int] = {}
    for value in graph.input:
        known = [size for name in _aliases(graph, value.name) for size in sizes.get(name, ())]
        if known:
            found[value.name] = min(known)
    return found


def _table_rows(graph: "GraphProto") -> dict[str, list[int]]:
    """Return sizes of the tables that a value indexes, by the value's name."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                constants[node.output[0]] = attribute.t
    rows: dict[str, list[int]] = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in constants and constants[node.input[0]].dims:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            rows.setdefault(node.input[1], []).append(constants[node.input[0]].dims[axis])
        elif node.op_type == "OneHot" and node.input[1] in constants:
            from onnx import numpy_helper

            rows.setdefault(node.input[0], []).append(int(numpy_helper.to_array(constants[node.input[1]]).reshape(-1)[0]))
    return rows


def _aliases(graph: "GraphProto", name: str) -> Iterator[str]:
    """Yield the names under which an input's values are handed on unchanged."""
    readers: dict[str, list[Sequence[str]]] = {}
    for node in graph.node:
        if node.op_type in _SAME_VALUES:
            readers.setdefault(node.input[0], []).append(node.output)
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop()
        yield current
        for outputs in readers.get(current, ()):
            fresh = [output for output in outputs if output not in seen]
            seen.update(fresh)
            waiting += fresh
