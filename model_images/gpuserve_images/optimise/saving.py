"""Writing ONNX files so that they stand alone: order, names, and weights beside them where protobuf's limit demands it."""

import heapq
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.onnx_model.graphs import all_graphs, inner_graphs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

INLINE_LIMIT = 1_800_000_000
"""Bytes up to which weights stay in the ONNX file itself. Protobuf ends at 2 GiB; the rest is room for the graph."""

FIRST_IR_WITH_PLAIN_WEIGHTS = 4
"""IR version from which weights need not be inputs (onnx/onnx.proto, IR_VERSION_2019_1_22)."""

SMALL_TENSOR = 1024
"""Bytes below which a tensor stays in the graph even when weights go beside it: shapes and scales are read by every parser."""


def save(model: "ModelProto", out: Path, *, limit: int = INLINE_LIMIT) -> list[Path]:
    """Write a model and return the files: the ONNX file, and `<name>.data` beside it when the weights are over the limit.

    Args:
        model: The model, its weights loaded. Weights that go beside the ONNX file are taken out of it, so that the memory holds them
            once; `reload` brings them back.
        out: Where to write the ONNX file.
        limit: Bytes of weights that stay in the ONNX file.
    """
    import onnx

    if weight_bytes(model) <= limit:
        onnx.save(model, out)
        return [out]
    data = out.with_name(f"{out.name}.data")
    data.unlink(missing_ok=True)  # onnx appends to a file that is there
    onnx.save(model, out, save_as_external_data=True, location=data.name, size_threshold=SMALL_TENSOR)
    return [out, data]


def reload(model: "ModelProto", folder: Path) -> None:
    """Bring back the weights that `save` took out of a model, from the folder that it wrote to; without any, nothing is read."""
    import onnx

    onnx.load_external_data_for_model(model, str(folder))


def weight_bytes(model: "ModelProto") -> int:
    """Return the size of all weights of the outermost graph, in bytes."""
    return sum(tensor.ByteSize() for tensor in model.graph.initializer)


def plain_weights(model: "ModelProto") -> bool:
    """Make every weight a dense constant that is no input, and return whether that changed the model."""
    dense = make_dense(model)
    return drop_weight_inputs(model) or dense


def make_dense(model: "ModelProto") -> bool:
    """Write sparse weights out, those of branches and loops too, and return whether there were any.

    TensorRT, the quantiser and the FP16 converter overlook them, and ONNX Runtime writes those of branches in a way that it does not read.
    """
    graphs = [graph for graph in all_graphs(model.graph) if graph.sparse_initializer]
    for graph in graphs:
        _write_out(graph)
    return bool(graphs)


def _write_out(graph: "GraphProto") -> None:
    import numpy as np
    from onnx import numpy_helper

    for sparse in graph.sparse_initializer:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    del graph.sparse_initializer[:]


def drop_weight_inputs(model: "ModelProto") -> bool:
    """Take weights out of the graph's inputs, and return whether there were any.

    Models of before IR version 4 list each weight as an input with a default. Once a stage folds such a weight away, its input would stay
    behind and every request had to carry it.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    own = [value for value in model.graph.input if value.name not in weights]
    if len(own) == len(model.graph.input):
        return False
    del model.graph.input[:]
    model.graph.input.extend(own)
    model.ir_version = max(model.ir_version, FIRST_IR_WITH_PLAIN_WEIGHTS)
    return True


def name_nodes(model: "ModelProto") -> None:
    """Give each node of the outermost graph a name of its own, as the quantiser, the FP16 converter and every report want it."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in seen or (name in taken and name != node.name):
            name += "_"
        node.name = name
        seen.add(name)


def make_constant_outputs(model: "ModelProto") -> None:
    """Let a node make each output that is a weight, for converters that take each output to be made by one."""
    from onnx import helper

    outputs = {value.name for value in model.graph.output}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for tensor in model.graph.initializer:
        if tensor.name not in outputs:
            continue
        old, name = tensor.name, f"{tensor.name}_constant"
        while name in taken:
            name += "_"
        for node in model.graph.node:
            for index, read in enumerate(node.input):
                if read == old:
                    node.input[index] = name
        tensor.name = name
        model.graph.node.append(helper.make_node("Identity", [name], [old]))


def take_out_passed(model: "ModelProto") -> "list[ValueInfoProto]":
    """Take outputs that are inputs out of a model, for converters that take each output to be made by a node; return all outputs.

    `put_back` gives the model its outputs again.
    """
    given = {value.name for value in model.graph.input}
    outputs = list(model.graph.output)
    own = [value for value in outputs if value.name not in given]
    if own and len(own) < len(outputs):
        put_back(model, own)
    return outputs


def put_back(model: "ModelProto", outputs: "Sequence[ValueInfoProto]") -> None:
    """Give a model outputs in place of its own."""
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def sort_nodes(graph: "GraphProto") -> None:
    """Bring nodes into the order that ONNX demands, each after what it reads; equal ranks keep their order.

    Raises:
        ValueError: When the graph has a cycle.
    """
    nodes = list(graph.node)
    maker = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    waits = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, needed in enumerate(waits):
        for other in needed:
            readers.setdefault(other, []).append(index)
    ready = [index for index, needed in enumerate(waits) if not needed]
    order: list[int] = []
    while ready:
        done = heapq.heappop(ready)
        order.append(done)
        for index in readers.get(done, ()):
            waits[index].discard(done)
            if not waits[index]:
                heapq.heappush(ready, index)
    if len(order) < len(nodes):
        msg = "the graph has a cycle"
        raise ValueError(msg)
    replace_nodes(graph, [nodes[index] for index in order])


def replace_nodes(graph: "GraphProto", nodes: "Sequence[NodeProto]") -> None:
    """Give a graph these nodes in place of its own."""
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unread(graph: "GraphProto", operators: Container[str]) -> None:
    """Drop the nodes of these operators, each of one output, that nobody reads; then those that only they read."""
    while True:
        graphs = list(all_graphs(graph))
        read = {name for each in graphs for node in each.node for name in node.input}
        read |= {value.name for each in graphs for value in each.output}
        kept = [node for node in graph.node if node.op_type not in operators or node.output[0] in read]
        if len(kept) == len(graph.node):
            return
        replace_nodes(graph, kept)


def _reads(node: "NodeProto") -> Iterator[str]:
    """Yield the tensors that a node reads, those that its branches take from outside included."""
    yield from node.input
    for inner in inner_graphs(node):
        for child in inner.node:
            yield from _reads(child)
