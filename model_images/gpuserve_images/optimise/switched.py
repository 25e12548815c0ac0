"""A model in two precisions in one graph: which of the two each layer computes in is said with each request.

So the loss of each layer is measured with one loaded model, where otherwise a model for each would have to be made and loaded.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.onnx_model.session import Runner, Session
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.optimise.saving import save, sort_nodes
from gpuserve_images.samples.codec import Tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

SWITCHES = "gpuserve switches"
"""The input that says which tensors are in the low precision; no model has a name with a space."""


class Switched(NamedTuple):
    """A model whose layers can be in the low precision or not.

    Attributes:
        file: The ONNX file, with `SWITCHES` as a further input: one truth value for each of `owners`.
        owners: For each switch, the layers that demand the low precision of it: one that is in it is enough.
    """

    file: Path
    owners: tuple[frozenset[str], ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that can be kept in fp32, sorted."""
        return tuple(sorted(frozenset().union(*self.owners)))


class SwitchedRunner:
    """A loaded model whose layers are in the low precision but for some."""

    def __init__(self, switched: Switched, signature: Signature) -> None:
        """Load it.

        Args:
            switched: The model.
            signature: Its inputs and outputs, without the switches.

        Raises:
            SourceError: When ONNX Runtime cannot run it.
        """
        # Fused kernels of its own would not know the switches.
        self._session = Session(switched.file, optimise="ORT_ENABLE_BASIC")
        self._owners = switched.owners
        self.outputs = self._session.outputs
        self.signature = signature

    def but(self, kept: Collection[str]) -> Runner:
        """Return the model with some layers kept in fp32."""
        switches = np.array([not owners.issubset(kept) for owners in self._owners])
        return _Set(self, switches)

    def run(self, inputs: Mapping[str, NDArray[Any]], switches: NDArray[np.bool_]) -> Tensors:
        """Return the outputs by name."""
        return self._session.run({**inputs, SWITCHES: switches})


class _Set:
    """A model whose switches are set."""

    def __init__(self, model: SwitchedRunner, switches: NDArray[np.bool_]) -> None:
        self._model, self._switches = model, switches
        self.outputs, self.signature = model.outputs, model.signature

    def run(self, inputs: Mapping[str, NDArray[Any]], /) -> Tensors:
        return self._model.run(inputs, self._switches)


class Choice(NamedTuple):
    """A tensor in both precisions.

    Attributes:
        name: What those that read it call it.
        low: The nodes that make it in the low precision of what else there is; the last one's first output is the tensor.
        full: The same in the full one. Of the two only what is asked for is computed.
        owners: The layers that demand the low precision.
    """

    name: str
    low: "Sequence[NodeProto]"
    full: "Sequence[NodeProto]"
    owners: frozenset[str]


def write(model: "ModelProto", choices: Iterable[Choice], out: Path) -> Switched:
    """Write a model in which each of some tensors is one of two.

    Args:
        model: The model, in which nothing makes these tensors; changed in place.
        choices: The tensors.
        out: Where to write; weights over 1.8 GB go beside it.
    """
    from onnx import TensorProto, helper

    owners: list[frozenset[str]] = []
    for choice in choices:
        switch = f"{SWITCHES} {len(owners)}"
        model.graph.initializer.append(helper.make_tensor(f"{switch} index", TensorProto.INT64, [], [len(owners)]))
        model.graph.node.append(helper.make_node("Gather", [SWITCHES, f"{switch} index"], [switch]))
        then, other = (_branch(nodes) for nodes in (choice.low, choice.full))
        model.graph.node.append(helper.make_node("If", [switch], [choice.name], then_branch=then, else_branch=other))
        owners.append(choice.owners)
    model.graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.BOOL, [len(owners)]))
    sort_nodes(model.graph)
    save(model, out)
    return Switched(out, tuple(owners))


def _branch(nodes: "Sequence[NodeProto]") -> "GraphProto":
    from onnx import TensorProto, helper

    name = nodes[-1].output[0]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
