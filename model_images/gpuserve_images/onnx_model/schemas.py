"""Which operators there are, and which types they take and give: ONNX's own, and those that ONNX Runtime adds."""

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import NodeProto


def types_of(node: "NodeProto", opset: int) -> list[set[str]]:
    """Return what the inputs and outputs of a node may be, such as `tensor(float)`; nothing for an operator that nobody here knows.

    Args:
        node: The node. What it leaves out is left out.
        opset: Version of its domain's operator set.
    """
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        schema = max(
            (each for each in runtime_schemas().get((node.domain, node.op_type), ()) if each.since_version <= opset),
            key=lambda each: each.since_version,
            default=None,
        )
    if schema is None:
        return []
    # Outputs may be left out at the end, such as the mean that LayerNormalization gives in FP32.
    said = [*zip(node.input, schema.inputs, strict=False), *zip(node.output, schema.outputs, strict=False)]
    return [set(formal.types) for name, formal in said if name]


@cache
def runtime_schemas() -> dict[tuple[str, str], list[Any]]:
    """Return ONNX Runtime's schemas, of each version, by domain and operator."""
    runtime: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in runtime.get_all_operator_schema():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found
