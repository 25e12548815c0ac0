"""Types and shapes of a model's inner tensors, written down in it: the converters overlook tensors that have none."""

from typing import TYPE_CHECKING

from gpuserve_images.onnx_model.session import inner_values
from gpuserve_images.optimise.saving import INLINE_LIMIT, put_back, replace_nodes, weight_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

READ_BY_INFERENCE = 2**16
"""Bytes up to which the values of a weight may say a shape, as those of Reshape's second input do: room for 8192 axes."""


def with_shapes(model: "ModelProto") -> "ModelProto":
    """Return the model with the shapes of its inner tensors, as far as ONNX's own inference finds them.

    It follows the values of small tensors (`data_prop`), so that shapes computed inside the graph are found too. ONNX Runtime's symbolic
    inference would find shapes of its own fused operators besides; it needs sympy, and no later stage asks for those shapes.

    Behind an operator that ONNX does not know (`ai.onnx.ml`, `com.microsoft`) it finds no types either. The quantiser and the FP16
    converter overlook tensors without one, so ONNX Runtime says those.

    Args:
        model: The model; changed in place.
    """
    del model.graph.value_info[:]
    shaped = inferred(model)
    known = {value.name for value in (*shaped.graph.input, *shaped.graph.value_info, *shaped.graph.output)}
    unknown = [name for node in shaped.graph.node for name in node.output if name and name not in known]
    if unknown:
        shaped.graph.value_info.extend(inner_values(shaped, unknown))
    if len(shaped.graph.initializer) == len(model.graph.initializer):
        return shaped
    replace_nodes(model.graph, shaped.graph.node)
    put_back(model, shaped.graph.output)
    model.graph.value_info.extend(shaped.graph.value_info)
    return model


def inferred(model: "ModelProto") -> "ModelProto":
    """Return a copy of the model with the shapes that ONNX's own inference finds; over 1.8 GB, it lacks the large weights."""
    import onnx

    return onnx.shape_inference.infer_shapes(_sketch(model), data_prop=True)


def _sketch(model: "ModelProto") -> "ModelProto":
    """Return the model without what cannot be passed on as one message: large weights become inputs, of which types and shapes are known."""
    from onnx import ModelProto, TensorProto, helper

    if weight_bytes(model) <= INLINE_LIMIT:
        return model
    sketch = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = sketch.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for weight in model.graph.initializer:
        if weight.ByteSize() <= READ_BY_INFERENCE and weight.data_location != TensorProto.EXTERNAL:
            graph.initializer.append(weight)
        else:
            graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    return sketch
