"""A transpose and a cast behind it, exchanged where ONNX Runtime would fail to do so itself and end the process.

Its optimiser moves a cast between a transpose and a matrix product in front of the transpose, to fuse transpose and product. Where it then
cannot fuse them, it leaves what it began, and the next optimiser reads a pointer that is null, on every x86 CPU (seen with 1.31, reported as
microsoft/onnxruntime#28392). A product in FP16 has such a cast always: the CPU computes it in FP32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuserve_images.onnx_model.graphs import all_graphs
from gpuserve_images.optimise.saving import drop_unread, sort_nodes
from gpuserve_images.optimise.shapes import with_shapes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

FLOAT = 1
"""`TensorProto.DataType.FLOAT`."""

HALVES = (10, 16)
"""`TensorProto.DataType` of FLOAT16 and BFLOAT16, in which the CPU has no matrix product."""

PRODUCTS = ("MatMul", "FusedMatMul")
"""Operators that transposes are fused with."""

SMALLEST_RANK = 3
"""Dimensions from which a transpose can move the batch axis."""


def exchanged(model: "ModelProto") -> "ModelProto":
    """Return a model that computes the same, with casts in front of the transposes that ONNX Runtime fails on.

    Args:
        model: The model, its inner shapes written down; changed in place.
    """
    outer: dict[str, _Tensor] = {}
    changed = False
    for graph in all_graphs(model.graph):
        # A graph within another reads the tensors around it.
        outer |= _tensors(graph)
        changed = _Exchange(graph, outer).run() or changed
    return with_shapes(model) if changed else model


@dataclass(frozen=True)
class _Tensor:
    kind: int
    rank: int | None


def _tensors(graph: "GraphProto") -> dict[str, _Tensor]:
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {
        value.name: _Tensor(kind.elem_type, len(kind.shape.dim) if kind.HasField("shape") else None)
        for value in values
        for kind in (value.type.tensor_type,)
    }
    return found | {weight.name: _Tensor(weight.data_type, len(weight.dims)) for weight in graph.initializer}


@dataclass
class _Exchange:
    """The work on one graph; `done` holds the new tensor for each that was exchanged, as several products read one."""

    graph: "GraphProto"
    tensors: Mapping[str, _Tensor]
    done: dict[str, str] = field(default_factory=dict)
    made: "list[NodeProto]" = field(default_factory=list)

    def run(self) -> bool:
        makers = {name: node for node in self.graph.node for name in node.output}
        for node in self.graph.node:
            for side in (0, 1) if node.op_type in PRODUCTS else ():
                name, other = node.input[side], self.tensors.get(node.input[1 - side])
                found = self._found(name, makers)
                if found is None or (other is not None and other.rank == len(_permutation(found[0]))):
                    continue
                if name not in self.done:
                    self.done[name] = self._exchange(name, *found)
                node.input[side] = self.done[name]
        if not self.done:
            return False
        self.graph.node.extend(self.made)
        drop_unread(self.graph, ("Cast", "Transpose"))
        sort_nodes(self.graph)
        return True

    def _found(self, name: str, makers: "Mapping[str, NodeProto]") -> "tuple[NodeProto, NodeProto | None] | None":
        """Return the transpose that a product reads and the cast between them, which ONNX Runtime makes itself for a half."""
        maker = makers.get(name)
        cast = maker if maker is not None and maker.op_type == "Cast" else None
        transpose = makers.get(cast.input[0]) if cast is not None else maker
        if transpose is None or transpose.op_type != "Transpose" or not _moves_batch(_permutation(transpose)):
            return None
        known = self.tensors.get(name)
        return (transpose, cast) if cast is not None or (known is not None and known.kind in HALVES) else None

    def _exchange(self, name: str, transpose: "NodeProto", cast: "NodeProto | None") -> str:
        from onnx import helper

        wide, turned = f"{name}/wide", f"{name}/turned"
        kind = FLOAT if cast is None else next(own.i for own in cast.attribute if own.name == "to")
        self.made += [
            helper.make_node("Cast", [transpose.input[0]], [wide], name=wide, to=kind),
            helper.make_node("Transpose", [wide], [turned], name=turned, perm=_permutation(transpose)),
        ]
        if cast is not None:
            return turned
        back = f"{name}/back"
        self.made.append(helper.make_node("Cast", [turned], [back], name=back, to=self.tensors[name].kind))
        return back


def _permutation(transpose: "NodeProto") -> list[int]:
    """Return the order of axes; empty where it is the default, which only turns them round."""
    return next((list(own.ints) for own in transpose.attribute if own.name == "perm"), [])


def _moves_batch(axes: list[int]) -> bool:
    """Return whether the first axis becomes one of the last two, and the others keep their order."""
    rank = len(axes)
    if rank < SMALLEST_RANK:
        return False
    inner = list(range(1, rank - 1))
    return axes in ([*inner, 0, rank - 1], [*inner, rank - 1, 0])
