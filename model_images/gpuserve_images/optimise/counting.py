"""Nodes that compute whole numbers in floating point, such as sizes and positions: FP16 counts to 2048 only, and skips numbers after."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

ARITHMETIC = (
    "Abs",
    "Add",
    "Ceil",
    "Clip",
    "Div",
    "Floor",
    "Log",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Range",
    "Round",
    "Sqrt",
    "Sub",
)
MOVING = ("Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where")
STEPS = frozenset((*ARITHMETIC, *MOVING))
"""Operators that sizes and positions go through, from and to whole numbers."""


def counting(model: "ModelProto") -> list[str]:
    """Return the names of the nodes between whole numbers (or an input) and whole numbers that are made of them.

    A size that is rounded is another size, and a position or an identifier another row of a table. ONNX Runtime's CPU kernels mostly
    compute in FP32, so no comparison on a CPU shows it.

    Args:
        model: The model, its nodes named and in order, the types of its inner tensors written down.
    """
    from onnx import TensorProto

    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    counted = {value.name for value in graph.input if types[value.name] == TensorProto.FLOAT}
    for node in graph.node:
        floats = [name for name in node.input if types.get(name) == TensorProto.FLOAT and name not in constants]
        from_whole = _cast_to(node) == TensorProto.FLOAT and types.get(node.input[0]) in _whole()
        if from_whole or (node.op_type in STEPS and floats and counted.issuperset(floats)):
            counted.update(node.output)
    wanted: set[str] = set()
    found: list[str] = []
    for node in reversed(graph.node):
        to_whole = _cast_to(node) in _whole() and node.input[0] in counted
        if to_whole or not (wanted.isdisjoint(node.output) or counted.isdisjoint(node.output)):
            wanted.update(node.input)
            found.append(node.name)
    return found[::-1]


def _cast_to(node: "NodeProto") -> int:
    """Return the type that a node casts to; that of nothing for other nodes."""
    return next((own.i for own in node.attribute if own.name == "to"), 0) if node.op_type == "Cast" else 0


def _whole() -> frozenset[int]:
    from onnx import TensorProto

    return frozenset(
        (TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT32, TensorProto.INT32, TensorProto.UINT64, TensorProto.INT64)
    )
