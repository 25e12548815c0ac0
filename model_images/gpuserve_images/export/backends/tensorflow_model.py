"""TensorFlow: a SavedModel folder, exported by tf2onnx."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gpuserve_images.export.backends.model import FREE, Arrays, FailureError, Port, Wishes, one_line
from gpuserve_images.export.backends.opset import at_opset

tf: Any = importlib.import_module("tensorflow")

MOST_BYTES = 2_000_000_000
"""Weights that fit a protobuf; tf2onnx 1.17 cannot write more, for it asks NumPy 2 for a function that it no longer has."""
NUMPY_TYPES = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"}


class TensorflowModel:
    """One signature of a SavedModel."""

    def __init__(self, loaded: Any, wishes: Wishes) -> None:
        """Read the signature."""
        self._loaded = loaded  # a signature alone does not keep its variables alive
        self._function = loaded.signatures[wishes.signature]
        self._wishes = wishes
        # A SavedModel keeps its tensors in no order, so they are in the order of their names.
        self._takes: dict[str, Any] = dict(sorted(self._function.structured_input_signature[1].items()))
        self._gives: dict[str, Any] = dict(sorted(self._function.structured_outputs.items()))
        found = [_port(name, spec) for name, spec in self._takes.items()]
        self.inputs = wishes.renamed(found)
        names = wishes.output_names(list(self._gives))
        self.outputs = [_port(name, spec) for name, spec in zip(names, self._gives.values(), strict=True)]
        self.notes = [f"signature {wishes.signature}"]

    def export(self, out: Path) -> None:
        """Convert with tf2onnx, whose answer is looked through: it leaves operators that it does not know as they are."""
        convert, constants = (importlib.import_module(f"tf2onnx.{name}") for name in ("convert", "constants"))

        newest = max(constants.OPSET_TO_IR_VERSION)
        if self._wishes.opset > newest:
            reason = f"is exported to opset {newest} at most: tf2onnx has no later one"
            raise FailureError(reason, f"Write opset: {newest}.", value=f"export.opset {self._wishes.opset}")
        names = list(self._takes)
        specs = [
            tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{number}") for number, spec in enumerate(self._takes.values())
        ]

        def asked(*arguments: Any) -> list[Any]:
            answers = self._function(**dict(zip(names, arguments, strict=True)))
            return [answers[name] for name in self._gives]

        weights = sum(value.dtype.size * int(np.prod(value.shape)) for value in self._function.variables)
        if weights > MOST_BYTES:
            reason = f"has more weights than tf2onnx can write ({MOST_BYTES} bytes)"
            raise FailureError(reason, "Serve it with TensorFlow Serving as it is.", value=f"{weights} bytes")
        try:
            function = tf.function(asked, input_signature=specs)
            converted, _ = convert.from_function(function, input_signature=specs, opset=self._wishes.opset)
            _hold_captured(converted, function.get_concrete_function())
        except Exception as error:
            reason = f"is not exported by tf2onnx: {type(error).__name__}: {one_line(error)}"
            raise FailureError(reason, "Change the model, or export it to ONNX yourself.") from error
        _refuse_unknown(converted)
        out.write_bytes(at_opset(converted, self._wishes.opset).SerializeToString())

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Ask TensorFlow."""
        tensors = {
            name: tf.constant(inputs[port.name], dtype=spec.dtype)
            for port, (name, spec) in zip(self.inputs, self._takes.items(), strict=True)
        }
        answers = self._function(**tensors)
        return [_text(answers[name].numpy()) for name in self._gives]


def load(path: Path, wishes: Wishes) -> TensorflowModel:
    """Read the folder.

    Raises:
        FailureError: When it is no SavedModel, or has no such signature.
    """
    try:
        loaded = tf.saved_model.load(str(_without_optimizer(path)))
    except Exception as error:
        reason = f"is no SavedModel that TensorFlow {tf.__version__} can read: {one_line(error)}"
        raise FailureError(reason, "Save it with tf.saved_model.save or model.export.") from error
    signatures = sorted(loaded.signatures)
    if wishes.signature not in signatures:
        reason = f"has no such signature; it has {', '.join(signatures) or 'none'}"
        fix = "Declare `export: {signature: ...}`." if signatures else "Save it with tf.saved_model.save(..., signatures=...)."
        raise FailureError(reason, fix, value=wishes.signature)
    return TensorflowModel(loaded, wishes)


def _without_optimizer(path: Path) -> Path:
    """Return a folder with the same model without the state of the optimizer that trained it; the same folder where it has none.

    Keras 2 saved that state, and TensorFlow without Keras 2 reads no model that has it
    (https://github.com/tensorflow/tensorflow/issues/52091). What is served does not need it. The folder lies with the process's own files.
    """
    graph = path / tf.saved_model.SAVED_MODEL_FILENAME_PB
    if not graph.is_file():
        return path
    saved = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel.FromString(graph.read_bytes())
    nodes = [node for part in saved.meta_graphs for node in part.object_graph_def.nodes if node.slot_variables]
    if not nodes:
        return path
    for node in nodes:
        del node.slot_variables[:]
    folder = Path(tempfile.mkdtemp())
    for each in path.iterdir():
        if each.name != graph.name:
            (folder / each.name).symlink_to(each.resolve())
    (folder / graph.name).write_bytes(saved.SerializeToString())
    return folder


def _hold_captured(model: onnx.ModelProto, function: Any) -> None:
    """Make weights of the tensors that are no variables and that a function uses from outside; tf2onnx leaves them as inputs."""
    outside = {inner.name: outer for outer, inner in function.graph.captures if outer.dtype != tf.resource}
    for value in [value for value in model.graph.input if value.name in outside]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(outside[value.name].numpy(), value.name))
        model.graph.input.remove(value)


def _port(name: str, spec: Any) -> Port:
    if spec.shape.rank is None:
        raise FailureError("has a tensor whose number of axes is not known", "Save it with an input_signature.", value=name)
    kind = "object" if spec.dtype == tf.string else spec.dtype.name
    if kind not in {*NUMPY_TYPES, "object"}:
        raise FailureError("has a tensor of a type that servers cannot carry", "Cast it in the model.", value=f"{name}: {kind}")
    return Port(name, kind, tuple(FREE if size is None else int(size) for size in spec.shape))


def _refuse_unknown(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain in {"", "ai.onnx"} and not onnx.defs.has(node.op_type):
            fix = "Compute it from operators that ONNX has, or leave it out of the served signature."
            raise FailureError("uses an operator that ONNX has no form of", fix, value=f"{node.op_type}, node {node.name}")


def _text(answer: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(answer.astype(np.bytes_), "utf-8").astype(object) if answer.dtype == object else answer
