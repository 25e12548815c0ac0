"""ONNX into TensorRT's network, and every reason why not in one message."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpuserve_images.compile.alone import alone
from gpuserve_images.compile.axes import unname_axes
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.integers import require_int32_sizes
from gpuserve_images.compile.profiles import Profile
from gpuserve_images.compile.starting import make_builder, make_logger
from gpuserve_images.onnx_model.files import load
from gpuserve_images.onnx_model.operators import SHOWN, all_nodes, describe
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature

if TYPE_CHECKING:
    from onnx import ModelProto

CLAMPED = ("clamp", "out of range")
"""Words of the parser's warnings when it changes the value of a constant to fit its type, such as FP64 to FP32."""

TYPES = {"FP32": "FLOAT", "FP16": "HALF", "INT8": "INT8", "INT32": "INT32", "INT64": "INT64", "UINT8": "UINT8", "BOOL": "BOOL"}
"""Datatype of the inference protocol -> TensorRT's name of it. The protocol's other types have none."""


@alone
def require_accepted(trt: ModuleType, model: Path) -> None:
    """Refuse a model that TensorRT's parser does not accept; nothing is built, so neither a GPU nor time is needed.

    Args:
        trt: The builder: the module `tensorrt_rtx`, or `tensorrt` where there is a GPU.
        model: The ONNX file.

    Raises:
        CompileError: Naming operators and nodes.
    """
    logger = make_logger(trt)
    builder = make_builder(trt, logger)
    parse(trt, builder.create_network(0), logger, model)


def parse(trt: ModuleType, network: Any, logger: Any, model: Path, shapes: Mapping[str, Profile] | None = None) -> None:
    """Read an ONNX file into a network, which keeps the types of the model (networks are strongly typed).

    Args:
        trt: The builder.
        network: Where to read it into.
        logger: That of the builder.
        model: The ONNX file.
        shapes: Profile of each input, which tell axes of one name apart. Default: not known.

    Raises:
        CompileError: When an operator, a type or a constant is not accepted, or the network would have other types than the model.
    """
    loaded = load(model)
    signature = read_signature(model)
    _require_types(signature, model)
    require_int32_sizes(loaded, model)
    parser = trt.OnnxParser(network, logger)
    unnamed = unname_axes(loaded, shapes or {})
    if not (parser.parse(loaded.SerializeToString(), str(model)) if unnamed else parser.parse_from_file(str(model))):
        raise _refusal(trt, parser, loaded, logger, model)
    clamped = [warning for warning in logger.warnings if any(word in warning for word in CLAMPED)]
    if clamped:
        reason = f"has constants that {trt.__name__} would change: {'; '.join(clamped)}"
        raise CompileError(str(model), reason, "Export the model with constants within the range of FP32.")
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.is_shape_tensor:
            reason = "gives sizes of other tensors by its values, which no profile bounds here"
            raise CompileError(f"{model}: input {tensor.name}", reason, "Export the model with that input as a constant.")


def _require_types(signature: Signature, model: Path) -> None:
    """Refuse inputs and outputs of types that the engine would not have, or would change, such as FP64 to FP32."""
    wrong: list[TensorSpec] = [tensor for tensor in (*signature.inputs, *signature.outputs) if tensor.dtype not in TYPES]
    if wrong:
        tensor = wrong[0]
        fix = f"Cast it inside the model to one of {', '.join(TYPES)}, or build it for ONNX Runtime."
        raise CompileError(f"{model}: {tensor.name}", "has a type that TensorRT does not have", fix, value=tensor.dtype)


def _refusal(trt: ModuleType, parser: Any, model: "ModelProto", logger: Any, path: Path) -> CompileError:
    """Name what the parser stopped at, and every other operator that it lacks."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    stopped = "; ".join(_said(error, model) for error in errors[:SHOWN]) or logger.last
    stopped += f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    kinds = {node.op_type for node in model.graph.node} - {"Constant", *(error.node_operator() for error in errors)}
    lacked = {kind for kind in kinds if not parser.supports_operator(kind)} - {function.name for function in model.functions}
    others = [node for node in all_nodes(model.graph.node) if node.op_type in lacked]
    all_of_them = f"; it lacks {describe(others)} too" if others else ""
    reason = f"is not accepted by the parser of {trt.__name__} {trt.__version__}: {stopped}{all_of_them}"
    return CompileError(str(path), reason, "Replace those operators, or build it for ONNX Runtime.")


def _said(error: Any, model: "ModelProto") -> str:
    """Say where the parser stopped and why, as far as it gives a reason: of an operator that it lacks it says `false`."""
    reason = error.desc()
    return _at(error, model) + (f": {reason}" if reason not in {"", "false"} else "")


def _at(error: Any, model: "ModelProto") -> str:
    """Say where the parser stopped: operator and node, which exporters may have left without a name."""
    operator, name, index = error.node_operator(), error.node_name(), error.node()
    if name:
        return f"{operator} (node {name!r})"
    if 0 <= index < len(model.graph.node) and model.graph.node[index].op_type == operator:
        return describe([model.graph.node[index]])
    return operator or "the graph's inputs"
