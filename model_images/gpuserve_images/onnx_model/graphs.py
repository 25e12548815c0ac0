"""Graphs within graphs: the branches of an `If`, the bodies of loops."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, NodeProto


def inner_graphs(node: "NodeProto") -> "Iterator[GraphProto]":
    """Yield a node's own branches and bodies, and not what is within those."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: "GraphProto") -> "Iterator[GraphProto]":
    """Yield a graph, then those within it, however deep."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from all_graphs(inner)
