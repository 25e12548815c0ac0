"""Which nodes must not be computed in half precision, and why: FP16 ends at 65504 and has 11 bits of significand."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LARGEST = 65504.0
"""Largest finite FP16 value (IEEE 754 binary16)."""

SMALLEST_NORMAL = 2.0**-14
"""Below it FP16 values lose bits of their significand, and end at 2**-24."""

HEADROOM = 8.0
"""Samples show most of the values that will come, not all: what comes within three binary orders of the end is kept in fp32."""

ACCUMULATING = (
    "CumSum",
    "Exp",
    "Pow",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
"""Operators whose results, or sums on the way to them, outgrow their inputs. `Reduce` and `Pow` are the two that TensorRT itself warns of
when it finds a normalisation written out in FP16 operators. Softmax and the normalisation operators are not among them: their kernels
subtract the maximum or sum in FP32."""


def kept_in_fp32(model: "ModelProto", largest: Mapping[str, float], wanted: Iterable[str] = ()) -> dict[str, str]:
    """Return the nodes to keep in fp32, each with the reason.

    Args:
        model: The model, its nodes named.
        largest: Largest magnitude of tensors, as measured on samples; tensors that it lacks are not judged.
        wanted: Operators or node names that the user wants kept.

    Raises:
        KeyError: When `wanted` names neither an operator of the model nor a node.
    """
    nodes = list(model.graph.node)
    names = {node.name for node in nodes} | {node.op_type for node in nodes}
    for name in wanted:
        if name not in names:
            raise KeyError(name)
    constants = {tensor.name: reason for tensor in model.graph.initializer if (reason := _unfit(tensor))}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    kept: dict[str, str] = {}
    for node in nodes:
        values = [name for name in (*node.input, *node.output) if largest.get(name, 0.0) > LARGEST / HEADROOM]
        if {node.name, node.op_type} & set(wanted):
            kept[node.name] = "named in keep_fp32"
        elif _without_half(node, opsets):
            kept[node.name] = f"{node.op_type} has no FP16 form"
        elif node.op_type in ACCUMULATING:
            kept[node.name] = f"{node.op_type} outgrows its inputs"
        elif unfit := [name for name in node.input if name in constants]:
            kept[node.name] = f"constant {unfit[0]} {constants[unfit[0]]}"
        elif values:
            kept[node.name] = f"{values[0]} reaches {largest[values[0]]:.3g}"
    return kept


def _without_half(node: "NodeProto", opsets: Mapping[str, int]) -> bool:
    """Return whether an operator takes or gives FP32 where it does not take or give FP16, in the operator set of its model.

    The converter has a list of its own, which lacks Celu, and QuantizeLinear as it was before operator set 19.
    """
    import onnx
    from onnxruntime.transformers.float16 import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST

    if node.op_type in (*DEFAULT_OP_BLOCK_LIST, *ALWAYS_FLOAT_INPUTS):
        return False
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:  # ONNX Runtime's own operators
        return False
    allowed = {constraint.type_param_str: set(constraint.allowed_type_strs) for constraint in schema.type_constraints}
    # Outputs may be left out at the end, such as the mean that LayerNormalization gives in FP32.
    said = [*zip(node.input, schema.inputs, strict=False), *zip(node.output, schema.outputs, strict=False)]
    types = [allowed.get(formal.type_str, {formal.type_str}) for name, formal in said if name]
    return any("tensor(float)" in found and "tensor(float16)" not in found for found in types)


def _unfit(tensor: "TensorProto") -> str | None:
    """Return why a constant must not become FP16: out of range, or a lone number (an epsilon) that would lose its value."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = np.abs(numpy_helper.to_array(tensor))
    finite = values[np.isfinite(values)]
    if finite.size and finite.max() > LARGEST:
        return f"has {finite.max():.3g}, over {LARGEST:g}"
    if values.size == 1 and finite.size and 0 < finite.max() < SMALLEST_NORMAL:
        return f"is {finite.max():.3g}, below {SMALLEST_NORMAL:.3g}"
    return None
