"""What ONNX Runtime folds: all that is constant, and nothing that makes a small file a large one."""

from typing import TYPE_CHECKING

from gpuserve_images.onnx_model.graphs import all_graphs
from gpuserve_images.onnx_model.operators import all_nodes
from gpuserve_images.optimise.shapes import inferred

if TYPE_CHECKING:
    from onnx import ModelProto

ENOUGH = 16 * 2**20
"""Bytes of a folded tensor that no model is too small for: a mask of 2048 by 2048 in FP32."""

GROWTH = 2
"""How much larger than the largest weight a folded tensor may be: a weight that is transposed keeps its size, one that is FP16 and
becomes FP32 doubles it. What is larger was made of a shape (`ConstantOfShape`, `Expand`, `Tile`, `Range`), and is as quick to make anew."""

UNSIZED = ("GreaterOrEqual", "LessOrEqual")
"""Operators that ONNX Runtime has no shape inference for before operator set `SIZED_FROM`. It folds nothing that it does not know the size
of (https://github.com/microsoft/onnxruntime/issues/32130), unless the model says it."""

SIZED_FROM = 16


def fold_limit(model: "ModelProto") -> int:
    """Return the largest size of a tensor that is worth folding, in bytes."""
    weights = [tensor.ByteSize() for graph in all_graphs(model.graph) for tensor in graph.initializer]
    constants = [given.t.ByteSize() for node in all_nodes(model.graph.node) for given in node.attribute]
    return max(ENOUGH, GROWTH * max(weights + constants, default=0))


def size_comparisons(model: "ModelProto") -> bool:
    """Write down the shapes of comparisons that ONNX Runtime would not fold without, and return whether there were any."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), SIZED_FROM)
    if opset >= SIZED_FROM:
        return False
    wanted = {name for node in model.graph.node if node.op_type in UNSIZED for name in node.output}
    wanted -= {value.name for value in (*model.graph.value_info, *model.graph.output)}
    if not wanted:
        return False
    shaped = inferred(model)
    found = [value for value in shaped.graph.value_info if value.name in wanted]
    model.graph.value_info.extend(found)
    return bool(found)
