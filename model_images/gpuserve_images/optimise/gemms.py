"""Gemm and MatMul as ONNX Runtime's quantiser takes them to be: no factors, a bias element for each output, weights of their own.

The quantiser (1.31) sets `beta` to 1 and leaves the bias unscaled, leaves any Gemm with a factor alone in dynamic mode, reshapes the scales
of all outputs to the shape of a bias of one element, and transposes a weight where it lies, also under the other nodes that read it.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from gpuserve_images.onnx_model.operators import all_nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

MATRIX = 2
"""Axes of a weight that can be quantised per channel by a MatMul: of stacked matrices, the kernels take no scale for each channel."""


def settle(model: "ModelProto") -> dict[str, str]:
    """Fold factors into constants, and return the nodes that must not be quantised, each with the reason.

    Args:
        model: The model, its weights loaded, its nodes named, its constants folded; changed in place.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = _readers(model)
    left: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Gemm":
            reason = _settle_gemm(model, node, constants, readers)
        elif node.op_type == "MatMul":
            reason = _odd_weight(node, constants)
        else:
            continue
        if reason:
            left[node.name] = reason
    read = {name for node in all_nodes(model.graph.node) for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    if len(kept) < len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    return left


def _settle_gemm(model: "ModelProto", node: "NodeProto", constants: "dict[str, TensorProto]", readers: Counter[str]) -> str:
    from onnx import numpy_helper

    factors = {attribute.name: attribute for attribute in node.attribute}
    alpha = factors["alpha"].f if "alpha" in factors else 1.0
    beta = factors["beta"].f if "beta" in factors else 1.0
    transposed = "transB" in factors and factors["transB"].i != 0
    weight, bias = constants.get(node.input[1]), constants.get(node.input[2]) if _has_bias(node) else None
    if _has_bias(node) and bias is None and beta != 1:
        return f"its bias is computed, and multiplied by {beta:g}"
    if bias is not None and len(bias.dims) == MATRIX and bias.dims[0] > 1:
        return f"its bias has {bias.dims[0]} rows"
    if weight is not None and (alpha != 1 or (transposed and readers[weight.name] > 1)):
        array = numpy_helper.to_array(weight)
        _own(model, node, 1, array if alpha == 1 else array * array.dtype.type(alpha), constants)
        _set(node, "alpha", 1.0)
    if bias is not None:
        array = numpy_helper.to_array(bias)
        outputs = array.size if weight is None else weight.dims[0 if transposed else 1]
        settled = _row(array if beta == 1 else array * array.dtype.type(beta), outputs)
        if beta != 1 or settled.shape != array.shape:
            _own(model, node, 2, settled, constants)
    _set(node, "beta", 1.0)
    return ""


def _odd_weight(node: "NodeProto", constants: "dict[str, TensorProto]") -> str:
    if node.input[0] in constants:
        return "its first factor is constant"
    weight = constants.get(node.input[1])
    if weight is not None and len(weight.dims) != MATRIX:
        return f"its weight has {len(weight.dims)} axes"
    return ""


def _has_bias(node: "NodeProto") -> bool:
    return len(node.input) > MATRIX and node.input[2] != ""


def _row(bias: "NDArray[Any]", outputs: int) -> "NDArray[Any]":
    """Return a bias as one element for each output."""
    import numpy as np

    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (outputs,)))


def _readers(model: "ModelProto") -> Counter[str]:
    readers = Counter(name for node in all_nodes(model.graph.node) for name in node.input)
    readers.update(value.name for value in model.graph.output)
    return readers


def _own(
    model: "ModelProto", node: "NodeProto", index: int, array: "NDArray[Any]", constants: "dict[str, TensorProto]"
) -> None:
    """Give a node a constant that no other node reads."""
    from onnx import numpy_helper

    name = f"{node.name}_{'weight' if index == 1 else 'bias'}"
    while name in constants:
        name += "_"
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    constants[name] = model.graph.initializer[-1]
    node.input[index] = name


def _set(node: "NodeProto", name: str, value: float) -> None:
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.f = value
