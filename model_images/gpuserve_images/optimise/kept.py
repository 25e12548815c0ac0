"""Nodes that stay in FP32: those that are named, the layers that make the outputs, and constants of their own for layers that INT8 leaves."""

from collections.abc import Collection, Container, Iterable, Sequence
from typing import TYPE_CHECKING

from gpuserve_images.errors import SourceError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPERATORS = ("Conv", "Gemm", "MatMul")
"""Operators that are quantised: where the arithmetic is. Others gain nothing and lose accuracy."""

DYNAMIC = ("Gemm", "MatMul")
"""Those of them whose ranges may be found anew for each request."""

CONVOLVED = "a convolution whose range is found anew for each request is slower than in FP32"
"""Why a `Conv` is not among `DYNAMIC`: YOLOv8, PP-OCR and PicoDet ran at a fifth to a seventh of their speed (ONNX Runtime 1.31, one thread,
AVX-512 VNNI), and nothing is as far from the source. https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html says so too."""

KEPT = "it is named in keep_fp32"
"""Why a node is left that the user wants kept."""

INTEGER = ("ConvInteger", "MatMulInteger")
"""What they become in dynamic mode."""


def named(model: "ModelProto", wanted: Sequence[str], operators: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of the nodes that `keep_fp32` names, by itself or by its operator, in the order of the graph.

    Args:
        model: A model whose nodes have names.
        wanted: Operators or names of nodes.
        operators: Operators that may be named, and whose nodes may. Default: all.

    Raises:
        SourceError: When one is neither an operator of the model nor one of its nodes.
    """
    nodes = [node for node in model.graph.node if not operators or node.op_type in operators]
    known = {name for node in nodes for name in _names(node)}
    for name in wanted:
        if name not in known:
            reason = "is neither an operator nor a node of the model"
            if operators:
                reason = f"is none of the operators that INT8 takes ({', '.join(operators)}), nor a node of theirs; others stay in fp32 anyway"
            raise SourceError("keep_fp32", reason, _known(node.op_type for node in nodes), value=name)
    return tuple(node.name for node in nodes if not _names(node).isdisjoint(wanted))


FUSED = "/MatMulAddFusion"
"""What ONNX Runtime adds to the name of a MatMul when it makes one Gemm of it and an Add."""


def _names(node: "NodeProto") -> set[str]:
    """Return what a node may be called: by its name, its operator, and what it was called before it was fused."""
    before = {node.name.removesuffix(FUSED), "MatMul"} if node.name.endswith(FUSED) else set[str]()
    return {node.name, node.op_type} | before


def _known(operators: Iterable[str]) -> str:
    return f"Name one of the operators {sorted(set(operators))}, or a node as the error of a missed bar names it."


def heads(model: "ModelProto", left: Container[str] = ()) -> list[str]:
    """Return the names of the quantisable nodes that no other one follows; none when that would leave nothing to quantise.

    Args:
        model: A model whose nodes have names.
        left: Names of nodes that are not quantised for other reasons.
    """
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    open_tensors = [output.name for output in graph.output]
    seen: set[str] = set()
    found: dict[str, None] = {}
    while open_tensors:
        name = open_tensors.pop()
        node = maker.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in OPERATORS:
            found[node.name] = None
        else:
            open_tensors += node.input
    others = [
        node.name for node in graph.node if node.op_type in OPERATORS and node.name not in found and node.name not in left
    ]
    return sorted(found) if others else []


def own_constants(model: "ModelProto", names: Collection[str]) -> bool:
    """Give layers that stay in FP32 copies of the constants that they share with layers that do not; return whether any did.

    The quantiser replaces a constant for all its readers. A bias is then one in units of another layer, which ONNX Runtime takes for the
    layer's own: its numbers are wrong, not merely rounded.

    Args:
        model: The model, changed in place; weights may lie in a file of their own.
        names: Names of the layers that stay.
    """
    layers = [node for node in model.graph.node if node.op_type in OPERATORS]
    quantised = {name for node in layers if node.name not in names for name in node.input}
    taken = {tensor.name for tensor in model.graph.initializer}
    copies: dict[str, str] = {}
    for tensor in list(model.graph.initializer):
        if tensor.name not in quantised or not any(tensor.name in node.input for node in layers if node.name in names):
            continue
        name = f"{tensor.name}_kept"
        while name in taken:
            name += "_"
        taken.add(name)
        copies[tensor.name] = name
        copy = model.graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = name
    for node in layers:
        if node.name in names:
            for index, name in enumerate(node.input):
                node.input[index] = copies.get(name, name)
    return bool(copies)
