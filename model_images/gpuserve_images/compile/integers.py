"""Sizes and indices that do not fit into an engine: a tensor there has at most 2**31 - 1 elements along an axis."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.compile.errors import CompileError
from gpuserve_images.onnx_model.operators import all_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto, TensorProto

INT32 = (-(2**31), 2**31 - 1)

NARROWED = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Reshape": (1,),
    "Resize": (3,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
}
"""Operator -> inputs that are sizes, counts or indices. Data of type INT64 stays INT64 in TensorRT 10 and later, but an index beyond INT32
builds without a word and reads from anywhere (`Gather`, TensorRT for RTX 1.7), and a size is refused as an "invalid node" or not at all.
`Slice` is not listed: exporters write its end as the largest INT64, and TensorRT cuts it to the tensor's size."""


def require_int32_sizes(model: "ModelProto", path: Path) -> None:
    """Refuse constants that are sizes or indices and do not fit into INT32.

    Raises:
        CompileError: Naming node, constant and value.
    """
    from onnx import numpy_helper

    for node, name, tensor in _narrowed(model):
        values = numpy_helper.to_array(tensor)
        outside = values[(values < INT32[0]) | (values > INT32[1])]
        if outside.size:
            where = f"{path}: node {node.name or node.output[0]!r} ({node.op_type})"
            reason = f"takes sizes or indices from constant {name!r}, and this one does not fit into INT32, which engines narrow them to"
            fix = f"Export the model with values between {INT32[0]} and {INT32[1]}."
            raise CompileError(where, reason, fix, value=str(outside.flat[0]))


def _narrowed(model: "ModelProto") -> "Iterator[tuple[NodeProto, str, TensorProto]]":
    from onnx import TensorProto
    from onnx.external_data_helper import uses_external_data

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(all_nodes(model.graph.node))
    for node in nodes:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in nodes:
        for position in NARROWED.get(node.op_type, ()):
            tensor = constants.get(node.input[position]) if position < len(node.input) else None
            if tensor is not None and tensor.data_type == TensorProto.INT64 and not uses_external_data(tensor):
                yield node, node.input[position], tensor
