"""A quantised model together with what it was made of (see `optimise.switched`)."""

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gpuserve_images.optimise.kept import OPERATORS
from gpuserve_images.optimise.switched import SWITCHES, Choice, Switched, write

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


def with_int8(plain: "ModelProto", low: "ModelProto", out: Path, left: Container[str]) -> Switched:
    """Write a model whose layers can be INT8.

    Args:
        plain: The model as it was given to the quantiser.
        low: What that made of it, statically (Q/DQ pairs) or dynamically (layers replaced); changed in place.
        out: Where to write; weights over 1.8 GB go beside it.
        left: Layers that are not INT8.
    """
    constants = {tensor.name: tensor for tensor in plain.graph.initializer}
    found = [*_pairs(plain, low), *_replaced(plain, low, left)]
    return write(low, [_choice(low, f"{SWITCHES} {index}", item, constants) for index, item in enumerate(found)], out)


class _Found(NamedTuple):
    """A tensor of the quantised model.

    Attributes:
        name: Its name.
        full: The node that makes what it is in fp32.
        owners: The layers that demand INT8 of it.
    """

    name: str
    full: "NodeProto"
    owners: frozenset[str]


def _choice(low: "ModelProto", mark: str, found: _Found, constants: "Mapping[str, TensorProto]") -> Choice:
    from onnx import NodeProto

    made = _taken_out(low, found.name, mark)
    layer = NodeProto()
    layer.CopyFrom(found.full)
    layer.name = layer.output[0] = f"{mark} full"
    for position, read in enumerate(layer.input):
        # The quantiser has a constant of its own by that name, or none.
        if read in constants:
            layer.input[position] = f"{mark} {position}"
            constant = low.graph.initializer.add()
            constant.CopyFrom(constants[read])
            constant.name = layer.input[position]
    return Choice(found.name, [made], [layer], found.owners)


def _replaced(plain: "ModelProto", low: "ModelProto", left: Container[str]) -> Iterator[_Found]:
    """Yield what each layer makes that is others' work now, as in dynamic quantisation."""
    names = {node.name for node in low.graph.node}
    made = {name for node in low.graph.node for name in node.output}
    for node in plain.graph.node:
        if node.op_type in OPERATORS and node.name not in names and node.name not in left and node.output[0] in made:
            yield _Found(node.output[0], node, frozenset({node.name}))


def _pairs(plain: "ModelProto", low: "ModelProto") -> Iterator[_Found]:
    """Yield the tensors that statically quantised layers read and make."""
    from onnx import helper

    before = {node.name: node for node in plain.graph.node}
    constants = {tensor.name for tensor in plain.graph.initializer}
    dequantised = {
        node.output[0]: node for node in low.graph.node if node.op_type == "DequantizeLinear" and node.name not in before
    }
    readers: dict[str, set[str]] = {}
    full: dict[str, str] = {}
    for node in low.graph.node:
        if node.op_type in OPERATORS and all(name in dequantised for name in node.input[:2]):
            for name, value in zip(node.input, before[node.name].input, strict=True):
                readers.setdefault(name, set()).add(node.name)
                # The quantiser has names of its own for constants that several layers share.
                if value in constants and name in dequantised:
                    full[name] = value
    layers = frozenset[str]().union(*readers.values())
    maker = {name: node.name for node in low.graph.node for name in node.output}
    rounded = {node.output[0]: node.input[0] for node in low.graph.node if node.op_type == "QuantizeLinear"}
    full |= {name: rounded[node.input[0]] for name, node in dequantised.items() if node.input[0] in rounded}
    owners: dict[str, set[str]] = {}
    for name, value in full.items():
        made = set[str]() if value in constants else {maker.get(value, "")} & layers
        owners.setdefault(name if value in constants else value, set()).update(readers.get(name, ()), made)
    for name, value in full.items():
        demanded = owners[name if value in constants else value]
        if demanded:
            yield _Found(name, helper.make_node("Identity", [value], [name]), frozenset(demanded))


def _taken_out(low: "ModelProto", name: str, mark: str) -> "NodeProto":
    """Return a node that makes a tensor of the quantised model under another name, and have nothing else make it."""
    from onnx import NodeProto, helper

    index, maker = next((index, node) for index, node in enumerate(low.graph.node) if name in node.output)
    if maker.op_type == "DequantizeLinear":
        node = NodeProto()
        node.CopyFrom(maker)
        node.output[0] = f"{mark} low"
        del low.graph.node[index]
        return node
    for position, output in enumerate(maker.output):
        if output == name:
            maker.output[position] = f"{mark} made"
    return helper.make_node("Identity", [f"{mark} made"], [f"{mark} low"])
