"""What the FP16 converter leaves to its caller: casts made twice, values squeezed through FP16 between two FP32 nodes, and order."""

from typing import TYPE_CHECKING

from gpuserve_images.optimise.saving import drop_unread, replace_nodes, sort_nodes
from gpuserve_images.optimise.shapes import with_shapes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_THROUGH_FP16 = (1, 10, 1)
"""`TensorProto.DataType` of FLOAT, FLOAT16 and FLOAT again."""


def mend(model: "ModelProto") -> "ModelProto":
    """Return a converted model as valid ONNX that computes in FP32 wherever two neighbouring nodes do.

    The converter casts the result of a node that stays in FP32 down, and up again for the next such node: what did not fit into FP16 is
    infinite then, and the node was kept in vain. It makes that cast up once per reader, under one name, and appends all casts at the end.
    """
    _drop_repeated(model.graph)
    sort_nodes(model.graph)
    typed = with_shapes(model)
    _bypass(typed)
    sort_nodes(typed.graph)
    return with_shapes(typed)


def _drop_repeated(graph: "GraphProto") -> None:
    seen: set[str] = set()
    kept: list[NodeProto] = []
    for node in graph.node:
        if not (node.op_type == "Cast" and node.output[0] in seen):
            kept.append(node)
        seen.update(node.output)
    replace_nodes(graph, kept)


def _bypass(model: "ModelProto") -> None:
    """Let readers of FP32 -> FP16 -> FP32 read the first value, and drop casts that nobody reads any more."""
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    given = {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    dropped: set[str] = set()
    for result, node in casts.items():
        down = casts.get(node.input[0])
        if down is None:
            continue
        first = down.input[0]
        if [types.get(name) for name in (first, node.input[0], result)] != [*_THROUGH_FP16]:
            continue
        if result not in outputs:
            renamed[result] = first
        elif first in given or first in outputs or first in renamed:
            continue
        else:
            renamed[first] = result  # an output keeps its name, so its maker writes it directly
        dropped.add(result)
    kept = [node for node in graph.node if not dropped.intersection(node.output)]
    for node in kept:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = _last(name, renamed)
    replace_nodes(graph, kept)
    drop_unread(graph, ("Cast",))


def _last(name: str, renamed: dict[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name
