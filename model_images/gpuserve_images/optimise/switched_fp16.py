"""A model whose tensors can be rounded to FP16 (see `optimise.switched`).

That is nearer to what a GPU computes than the converted model in ONNX Runtime on a CPU, which rounds in between only now and then.
"""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.optimise.switched import SWITCHES, Choice, Switched, write

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto


def with_fp16(model: "ModelProto", out: Path, kept: Container[str]) -> Switched:
    """Write a model whose nodes can compute in FP16.

    Args:
        model: The model, its nodes named and its inner types written down; changed in place.
        out: Where to write; weights over 1.8 GB go beside it.
        kept: Names of the nodes that stay in fp32.
    """
    graph = model.graph
    owners = _owners(graph, kept)
    marks = {name: f"{SWITCHES} {index}" for index, name in enumerate(owners)}
    given = {value.name for value in graph.input}
    _call_apart(graph, marks, given)
    return write(model, [_choice(name, mark, owners[name], given=name in given) for name, mark in marks.items()], out)


def _owners(graph: "GraphProto", kept: Container[str]) -> dict[str, frozenset[str]]:
    """Return the nodes that read or make each FP32 tensor, those that stay in fp32 left out."""
    from onnx import TensorProto

    values = (*graph.input, *graph.value_info, *graph.output)
    real = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    real |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    owners: dict[str, set[str]] = {}
    for node in graph.node:
        for name in (*node.input, *node.output):
            if name in real and node.name not in kept:
                owners.setdefault(name, set()).add(node.name)
    return {name: frozenset(nodes) for name, nodes in owners.items()}


def _call_apart(graph: "GraphProto", marks: Mapping[str, str], given: Container[str]) -> None:
    """Give tensors another name where they are made, and inputs of the model where they are read."""
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in marks:
                node.output[index] = f"{marks[name]} made"
        for index, name in enumerate(node.input):
            if name in marks and name in given:
                node.input[index] = f"{marks[name]} read"
    for weight in graph.initializer:
        if weight.name in marks:
            weight.name = f"{marks[weight.name]} made"


def _choice(name: str, mark: str, owners: frozenset[str], *, given: bool) -> Choice:
    from onnx import TensorProto, helper

    made = name if given else f"{mark} made"
    low = [
        helper.make_node("Cast", [made], [f"{mark} half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{mark} half"], [f"{mark} low"], to=TensorProto.FLOAT),
    ]
    return Choice(f"{mark} read" if given else name, low, [helper.make_node("Identity", [made], [f"{mark} full"])], owners)
