"""Models made ready for ONNX Runtime's quantiser, and the quantiser kept from writing and talking wherever it likes."""

import contextlib
import importlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

from gpuserve_images.disks import scratch
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.files import external_files, load
from gpuserve_images.onnx_model.graphs import all_graphs
from gpuserve_images.onnx_model.operators import SHOWN, STANDARD, all_nodes, require_operators
from gpuserve_images.onnx_model.session import runtime_errors
from gpuserve_images.optimise.folding import fold_limit, size_comparisons
from gpuserve_images.optimise.gemms import settle
from gpuserve_images.optimise.graph import LEVELS, by_runtime
from gpuserve_images.optimise.kept import CONVOLVED, DYNAMIC, INTEGER, KEPT, OPERATORS, heads, named, own_constants
from gpuserve_images.optimise.quiet import quiet
from gpuserve_images.optimise.saving import (
    INLINE_LIMIT,
    name_nodes,
    plain_weights,
    replace_nodes,
    save,
    take_out_passed,
)
from gpuserve_images.optimise.shapes import with_shapes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

PER_CHANNEL_OPSET = 13
"""Operator set from which QuantizeLinear and DequantizeLinear have an axis (onnx/docs/Changelog.md); older models are brought to it."""

SUPPORTED = ("FLOAT", "UNDEFINED")
"""Types that the quantiser takes layers of; the second where nobody says it."""

INNER = "it is in a branch or a loop, which ONNX Runtime's quantiser does not reach"
"""Why a node of an inner graph is left."""

_WRITERS = ("quantize", "quant_utils")


class Prepared(NamedTuple):
    """A model that the quantiser can take.

    Attributes:
        file: The ONNX file: constants folded, every node named, and no factors left at its `Gemm`s.
        left: Nodes that must not be quantised, each with the reason.
        heads: Nodes that make the outputs, which stay as they are; none where that is not wanted.
        layers: How many nodes of `OPERATORS` there are, those in branches too.
        integers: How many nodes of `INTEGER` there are before.
        outputs: The model's outputs; the file lacks those that are inputs.
        large: Whether its weights may not fit into one protobuf message.
    """

    file: Path
    left: Mapping[str, str]
    heads: Sequence[str]
    layers: int
    integers: int
    outputs: "Sequence[ValueInfoProto]"
    large: bool


@contextlib.contextmanager
def prepared(
    model: Path, out: Path, *, keep: Sequence[str] = (), keep_head: bool = False, dynamic: bool = False
) -> Generator[Prepared]:
    """Fold constants, name nodes and settle factors, as the quantiser wants it; temporary files lie beside `out`.

    What the quantiser fails with inside is reported as the model's fault.

    Args:
        model: The ONNX file to quantise; what is FP16 in it is brought to FP32.
        out: Where the result will be.
        keep: Operators or node names to leave in fp32.
        keep_head: Whether the layers that make the outputs stay as they are. Default: no.
        dynamic: Whether ranges are found anew for each request. Default: no.

    Raises:
        SourceError: When the model has nothing to quantise, `keep` names no layer, or the quantiser fails on it.
    """
    import onnx

    require_operators(model)
    kinds = {node.op_type for node in all_nodes(_inlined(load(model)).graph.node)}
    if not kinds & set(OPERATORS):
        reason = f"has none of the operators that INT8 speeds up ({', '.join(OPERATORS)})"
        raise SourceError(str(model), reason, "Build it in fp32.", value=", ".join(sorted(kinds)))
    try:
        with quiet(), scratch(out.parent) as folder, _writing_into(folder):
            loaded = onnx.load(model)
            plain = folder / "plain.onnx"
            changed = plain_weights(loaded)
            changed = size_comparisons(loaded) or changed
            modern = _modern(loaded)
            limit = fold_limit(modern)
            if changed or modern is not loaded:
                save(modern, plain)
                loaded = by_runtime(plain, LEVELS["basic"], folder, limit, shown=model)
            else:
                loaded = by_runtime(model, LEVELS["basic"], folder, limit)
            _fold_casts(loaded)
            name_nodes(loaded)
            left = settle(loaded)
            outputs = take_out_passed(loaded)
            ready = folder / "prepared.onnx"
            loaded = with_shapes(loaded)
            save(loaded, ready)
            computed = _types(loaded)
            left |= {name: f"it computes in {kind}" for name, kind in computed.items() if kind not in SUPPORTED}
            left |= dict.fromkeys(named(loaded, keep, OPERATORS), KEPT)
            if dynamic:
                left |= {
                    node.name: CONVOLVED
                    for node in loaded.graph.node
                    if node.op_type in OPERATORS and node.op_type not in DYNAMIC
                }
            _, *inner = all_graphs(loaded.graph)
            left |= {node.name or node.output[0]: INNER for graph in inner for node in graph.node if node.op_type in OPERATORS}
            layers = sum(node.op_type in OPERATORS for node in all_nodes(loaded.graph.node))
            if layers == len(left):
                raise nothing_quantised(model, layers, left)
            last = heads(loaded, left) if keep_head else []
            if own_constants(loaded, {*left, *last}):
                onnx.save(loaded, ready)
            integers = sum(node.op_type in INTEGER for node in all_nodes(loaded.graph.node))
            yield Prepared(ready, left, last, layers, integers, outputs, is_large(ready))
    except (ValueError, RuntimeError, NotImplementedError, AssertionError, KeyError, TypeError, *runtime_errors()) as error:
        reason = f"cannot be quantised: {type(error).__name__}: {shortened(error)}"
        raise SourceError(
            str(model), reason, "Build it in fp32, calibrate on samples of one shape, or export it with opset 13 or later."
        ) from error


def nothing_quantised(model: Path, layers: int, left: Mapping[str, str]) -> SourceError:
    """Return the error for a model of which no layer was or can be quantised.

    Args:
        model: The ONNX file.
        layers: Its nodes of `OPERATORS`.
        left: Those known to be left alone, each with the reason.
    """
    reasons = Counter(left.values())
    if layers > len(left):
        reasons["ONNX Runtime found no constant FP32 weight that it could quantise"] = layers - len(left)
    counted = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(SHOWN))
    reason = f"would be an INT8 build in which none of its {layers} layers ({', '.join(OPERATORS)}) is INT8: {counted}"
    fix = "Export the model in FP32 with constant weights, or build it in its own precision."
    if KEPT in reasons:
        fix = "Name fewer in `keep_fp32:`, or build it in its own precision."
    elif INNER in reasons:
        fix = "Export the model without branches and loops, or build it in its own precision."
    elif CONVOLVED in reasons:
        fix = "Write `precision: int8` with `calibrate:`, whose ranges are measured once, or build it in its own precision."
    return SourceError(str(model), reason, fix)


def _modern(model: "ModelProto") -> "ModelProto":
    """Return a model without functions of its own, in an operator set that can say per channel; the same one where it is so."""
    import onnx.version_converter

    model = _inlined(model)
    if max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=0) < PER_CHANNEL_OPSET:
        return onnx.version_converter.convert_version(model, PER_CHANNEL_OPSET)
    return model


def _fold_casts(model: "ModelProto") -> None:
    """Make weights FP32 that ONNX Runtime put behind a cast from FP16: behind it, they are no constants to the quantiser."""
    from onnx import TensorProto, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    kept: list[NodeProto] = []
    for node in model.graph.node:
        weight = weights.get(node.input[0]) if node.op_type == "Cast" and node.output[0] not in outputs else None
        if weight is None or weight.data_type != TensorProto.FLOAT16 or node.attribute[0].i != TensorProto.FLOAT:
            kept.append(node)
            continue
        wide = numpy_helper.to_array(weight).astype("float32")
        model.graph.initializer.append(numpy_helper.from_array(wide, node.output[0]))
    replace_nodes(model.graph, kept)


def _inlined(model: "ModelProto") -> "ModelProto":
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model, convert_version=True) if model.functions else model


def _types(model: "ModelProto") -> dict[str, str]:
    """Return the type that each layer of the outermost graph computes in, such as `FLOAT`, by the name of its node."""
    from onnx import TensorProto, shape_inference

    # Its own types stay: ONNX knows nothing of ONNX Runtime's operators.
    shaped = shape_inference.infer_shapes(model).graph
    values = (*shaped.input, *shaped.value_info, *shaped.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in shaped.initializer}
    return {
        node.name: TensorProto.DataType.Name(types.get(node.output[0], types.get(node.input[0], TensorProto.UNDEFINED)))
        for node in shaped.node
        if node.op_type in OPERATORS
    }


@contextlib.contextmanager
def _writing_into(folder: Path) -> Generator[None]:
    """Have the quantiser's own temporary folders made in a folder: it takes those of `/tmp`, and cannot be told another place.

    Only its own modules are changed, one quantisation at a time: `tempfile.tempdir` would move the files of other threads too.
    """
    modules = [vars(importlib.import_module(f"onnxruntime.quantization.{name}")) for name in _WRITERS]
    before = [module["tempfile"] for module in modules]
    for module in modules:
        module["tempfile"] = SimpleNamespace(TemporaryDirectory=lambda prefix="": _kept_on_failure(folder, prefix))
    try:
        yield
    finally:
        for module, real in zip(modules, before, strict=True):
            module["tempfile"] = real


@contextlib.contextmanager
def _kept_on_failure(folder: Path, prefix: str) -> Generator[str]:
    """Give a folder that stays when something fails, so that `scratch` sees how full the disk was."""
    place = tempfile.mkdtemp(prefix=prefix, dir=folder)
    yield place
    shutil.rmtree(place)


def is_large(model: Path) -> bool:
    """Return whether the weights may not fit into one protobuf message."""
    parsed = load(model)
    return model.stat().st_size + sum(file.stat().st_size for file in external_files(parsed, model)) > INLINE_LIMIT
