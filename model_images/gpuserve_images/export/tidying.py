"""What makes converters' files alike: names, a free batch axis, no traces of the machine that exported them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.errors import ExportError
from gpuserve_images.onnx_model.files import load
from gpuserve_images.onnx_model.graphs import all_graphs, inner_graphs
from gpuserve_images.onnx_model.signature import DYNAMIC, TensorSpec, carried

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

COUNTED = re.compile(r"(?P<stem>(?P<base>.*)__[0-9]+)(?P<port>(:[0-9]+)?)")
BATCH = "batch"
GRAPH = "model"


def tidy(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], where: str) -> None:
    """Rewrite an exported file in place.

    Args:
        path: The file; its weights may lie beside it.
        inputs: What its inputs must be, in order.
        outputs: What its outputs must be, in order.
        where: What errors are about: the source model's path.

    Raises:
        ExportError: When the graph has other inputs or outputs than the source model.
    """
    import onnx

    model = load(path)
    _recount(model.graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    renamed = {
        **_paired([value for value in model.graph.input if value.name not in weights], inputs, "inputs", where),
        **_paired(list(model.graph.output), outputs, "outputs", where),
    }
    _rename(model.graph, renamed, {*_names(model.graph)})
    _without_traces(model)
    default = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    # Of ONNX Runtime's own operators, such as those for text, no IR version is known.
    lowest = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    model.ir_version = min(model.ir_version, max(lowest, _ir(default)))
    onnx.save(model, path)


def require_names(tensors: Sequence[TensorSpec], where: str) -> None:
    """Refuse names that a model which is ONNX already may not have either (`carried`).

    Raises:
        ExportError: Naming the first such tensor.
    """
    for tensor in tensors:
        if not carried(tensor.name):
            reason = "has an input or output whose name is empty, or has spaces or control characters in it"
            fix = "Name them in order: `export: {inputs: [{name: ...}], outputs: [...]}`."
            raise ExportError(where, reason, fix, value=repr(tensor.name))


def _ir(opset: int) -> int:
    import onnx

    return onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])


def _paired(values: "Sequence[ValueInfoProto]", wanted: Sequence[TensorSpec], role: str, where: str) -> dict[str, str]:
    if len(values) != len(wanted):
        reason = f"was exported with {len(values)} {role}, and the model itself has {len(wanted)}"
        found = ", ".join(value.name for value in values)
        raise ExportError(where, reason, "An input that nothing uses is dropped: remove it from the model.", value=found)
    for value, tensor in zip(values, wanted, strict=True):
        value.type.tensor_type.ClearField("shape")
        for axis, size in enumerate(tensor.shape):
            dim = value.type.tensor_type.shape.dim.add()
            if size != DYNAMIC:
                dim.dim_value = size
            else:
                dim.dim_param = BATCH if axis == 0 else f"{tensor.name}_{axis}"
    return {value.name: tensor.name for value, tensor in zip(values, wanted, strict=True)}


def _names(graph: "GraphProto") -> Iterator[str]:
    """Yield every name of a value in a graph and the graphs inside of it."""
    for values in (graph.initializer, graph.input, graph.output):
        yield from (value.name for value in values)
    for node in graph.node:
        yield from node.output
        for inner in inner_graphs(node):
            yield from _names(inner)


def _rename(graph: "GraphProto", renamed: dict[str, str], taken: set[str]) -> None:
    """Rename values everywhere; a value inside that already has a wanted name makes room."""
    names = dict(renamed)
    for wanted in renamed.values():
        if wanted in taken and wanted not in renamed:
            fresh = f"{wanted}_inner"
            while fresh in taken:
                fresh += "_"
            names[wanted] = fresh
    _apply(graph, {old: new for old, new in names.items() if old != new})


def _recount(graph: "GraphProto") -> None:
    """Number names such as `const__21` in the order of their use: tf2onnx counts in an order that changes from run to run."""
    stems: dict[str, str] = {}
    names: dict[str, str] = {}
    for name in _used(graph):
        counted = COUNTED.fullmatch(name)
        if counted is not None:
            stem = stems.setdefault(counted["stem"], f"{counted['base']}__{len(stems)}")
            names[name] = stem + counted["port"]
    _apply(graph, names)
    graph.initializer.sort(key=lambda tensor: tensor.name)


def _used(graph: "GraphProto") -> Iterator[str]:
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for inner in inner_graphs(node):
            yield from _used(inner)


def _apply(graph: "GraphProto", names: dict[str, str]) -> None:
    for values in (graph.input, graph.output, graph.initializer, graph.value_info):
        for value in values:
            value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for inner in inner_graphs(node):
            _apply(inner, names)


def _without_traces(model: "ModelProto") -> None:
    """Drop stack traces, paths, random names and value shapes: they tell of the machine, and change from run to run."""
    del model.metadata_props[:]
    model.doc_string = ""
    for graph in all_graphs(model.graph):
        graph.doc_string = ""
        graph.name = GRAPH
        del graph.metadata_props[:]
        for items in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
            for item in items:
                item.doc_string = ""
                del item.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
