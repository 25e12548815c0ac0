"""Operators that ONNX Runtime has, so that one it lacks is answered with its node's name."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import load
from gpuserve_images.onnx_model.graphs import inner_graphs
from gpuserve_images.onnx_model.schemas import runtime_schemas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onnx import ModelProto, NodeProto

SHOWN = 5
"""Nodes named in one message; an exporter's gap shows in a few."""

STANDARD = ("", "ai.onnx")
"""Names of the standard operators' domain."""


def require_operators(path: Path) -> None:
    """Refuse a model with operators that ONNX Runtime does not know, naming each with its node.

    Raises:
        SourceError: Naming the operators and nodes.
    """
    model = load(path)
    own = {(function.domain, function.name) for function in model.functions}
    unknown = [node for node in all_nodes(model.graph.node) if not _known(node) and (node.domain, node.op_type) not in own]
    if unknown:
        reason = f"has operators that ONNX Runtime does not know: {describe(unknown)}"
        fix = "Export the model with standard operators, or write them as ONNX functions of the model."
        raise SourceError(str(path), reason, fix, value=", ".join(sorted({node.op_type for node in unknown})))


def describe(nodes: "Iterable[NodeProto]") -> str:
    """Return operators and the nodes that use them in words, such as ``Unique (node 'ids')``."""
    found = list(nodes)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(f"{_operator(node)} ({_node(node)})" for node in found[:SHOWN]) + more


def all_nodes(nodes: "Iterable[NodeProto]") -> "Iterator[NodeProto]":
    """Yield nodes and those of their branches and loops."""
    for node in nodes:
        yield node
        for inner in inner_graphs(node):
            yield from all_nodes(inner.node)


def in_half(model: "ModelProto") -> bool:
    """Return whether inputs, outputs or weights of a model are FP16 or BF16: then it is not FP32 that it was made in."""
    from onnx import TensorProto

    values = (*model.graph.input, *model.graph.output)
    types = {tensor.data_type for tensor in model.graph.initializer} | {value.type.tensor_type.elem_type for value in values}
    return bool(types & {TensorProto.FLOAT16, TensorProto.BFLOAT16})


def _operator(node: "NodeProto") -> str:
    return node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def _node(node: "NodeProto") -> str:
    """Name a node, by its first output where it has no name: exporters leave names out."""
    if node.name:
        return f"node {node.name!r}"
    return f"the node that makes {node.output[0]!r}" if node.output else "a node without name and outputs"


def _known(node: "NodeProto") -> bool:
    domain = "" if node.domain in STANDARD else node.domain
    return (domain, node.op_type) in runtime_schemas()
