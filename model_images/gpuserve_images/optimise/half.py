"""FP16 by mixed-precision conversion; inputs and outputs keep their types.

The converter is `onnxruntime.transformers.float16`: kept, and already there with ONNX Runtime. Its two relatives were tried on the same
graphs (2026): onnxconverter-common 1.16, its ancestor, gives magika a graph that neither ONNX Runtime nor TensorRT accepts, because it
leaves casts to float as they are; nvidia-modelopt's AutoCast needs PyTorch and an older onnx than ours. Three things the converter leaves
to its caller are done in `optimise.casts`.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.disks import scratch
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.onnx_model.trial import fatal
from gpuserve_images.optimise.accepted import acceptance
from gpuserve_images.optimise.calibration import largest_values
from gpuserve_images.optimise.casts import mend
from gpuserve_images.optimise.exchanged import exchanged
from gpuserve_images.optimise.kept import named
from gpuserve_images.optimise.overflow import kept_in_fp32
from gpuserve_images.optimise.saving import (
    make_constant_outputs,
    name_nodes,
    plain_weights,
    put_back,
    reload,
    save,
    take_out_passed,
)
from gpuserve_images.optimise.shapes import with_shapes
from gpuserve_images.records import StageRecord, sha256_file, tool_versions
from gpuserve_images.samples.codec import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

RANGE_SAMPLES = 256
"""Samples that ranges are measured on, at most, spread evenly: the value that overflows may come with one kind of input only."""

CONTROL_FLOW = ("If", "Loop", "Scan")


def to_fp16(
    model: Path, out: Path, *, samples: Sequence[Tensors] = (), batched: bool | None = None, keep: Sequence[str] = ()
) -> StageRecord:
    """Write a model that computes in FP16 where that is safe.

    ONNX Runtime's CPU kernels compute most FP16 operators in FP32 and round in between only now and then, so parity measured on a CPU shows
    what the weights and constants lost, and an overflow hardly ever. That is why ranges are measured here, on the model before conversion.

    Kept in fp32 are operators without an FP16 form, those whose results outgrow their inputs, constants that FP16 cannot hold and what
    they guard from zero, what counts, and whatever comes near FP16's end on the samples (see `optimise.overflow`).

    Args:
        model: The ONNX file to convert; best after `optimise`, which folds constants.
        out: Where to write the result; weights over 1.8 GB go to `<name>.data` beside it.
        samples: Inputs to measure ranges on. Without them only what shows in the graph is kept.
        batched: Whether samples can be joined. Default: where the model's first axes are free.
        keep: Operators or node names to keep in fp32 besides.

    Raises:
        SourceError: When nothing can be converted, `keep` names nothing of the model, or the result cannot be run.
        CompileError: When TensorRT accepts the model and not the result.
        OSError: When the disk of `out` is full.
    """
    loaded, outputs = prepared(model)
    wanted = named(loaded, keep)
    looked_at = samples[:: -(-len(samples) // RANGE_SAMPLES) or 1]
    joined = read_signature(model).batched if batched is None else batched
    largest = _largest(loaded, looked_at, out.parent, batched=joined, shown=model)
    kept = kept_in_fp32(loaded, largest, wanted)
    nodes = len(loaded.graph.node)
    converted = _convert(loaded, list(kept), model)
    put_back(converted, outputs)
    files = save(converted, out)
    _require_sound(model, out)
    return StageRecord(
        stage="fp16",
        inputs={"model": sha256_file(model)},
        options={"samples": len(looked_at), "kept_in_fp32": kept, "nodes": nodes},
        outputs={file.name: sha256_file(file) for file in files},
        tools=tool_versions("onnx", "onnxruntime"),
        notes=(acceptance(model, out),),
    )


def prepared(model: Path) -> "tuple[ModelProto, Sequence[ValueInfoProto]]":
    """Return a model that the converter can take, and its outputs: it lacks those that are inputs.

    Raises:
        SourceError: When nothing in it can be converted.
    """
    import onnx

    loaded = onnx.load(model)
    _require_convertible(loaded, model)
    plain_weights(loaded)
    make_constant_outputs(loaded)
    outputs = take_out_passed(loaded)
    name_nodes(loaded)
    return with_shapes(loaded), outputs


def _convert(model: "ModelProto", kept: Sequence[str], path: Path) -> "ModelProto":
    from onnxruntime.transformers import float16

    with warnings.catch_warnings():
        # It warns of each weight that it rounds; what matters of that is in `overflow`.
        warnings.simplefilter("ignore")
        try:
            converted: ModelProto = float16.convert_float_to_float16(
                model, keep_io_types=True, disable_shape_infer=True, node_block_list=list(kept)
            )
            return exchanged(mend(converted))
        except (ValueError, AssertionError, KeyError, RuntimeError) as error:
            reason = f"cannot be converted to FP16: {type(error).__name__}: {shortened(error)}"
            raise SourceError(str(path), reason, "Build it in fp32.") from error


def _largest(model: "ModelProto", samples: Sequence[Tensors], beside: Path, *, batched: bool, shown: Path) -> dict[str, float]:
    if not samples:
        return {}
    with scratch(beside) as folder:
        named = folder / "named.onnx"
        save(model, named)
        reload(model, folder)
        return largest_values(named, samples, batched=batched, shown=shown)


def _require_convertible(model: "ModelProto", path: Path) -> None:
    from onnx import TensorProto

    branching = sorted({node.op_type for node in model.graph.node if node.op_type in CONTROL_FLOW})
    if branching:
        reason = "has control flow, and the conversion does not reach into branches"
        raise SourceError(str(path), reason, "Build it in fp32, or export it without control flow.", value=", ".join(branching))
    values = (*model.graph.input, *model.graph.output)
    types = {tensor.data_type for tensor in model.graph.initializer} | {value.type.tensor_type.elem_type for value in values}
    if TensorProto.FLOAT not in types:
        fix = "Write `precision: fp32`, which leaves the types of a model as they are: one that is FP16 already stays so."
        raise SourceError(str(path), "computes nothing in FP32 that could be converted to FP16", fix)


def _require_sound(model: Path, out: Path) -> None:
    """Load the result: the converter does not look at what it made, and ONNX Runtime has ended the process on some."""
    if ended := fatal(out):
        reason = f"cannot be converted to FP16: ONNX Runtime ends the process that loads the result ({shortened(ended)})"
        raise SourceError(str(model), reason, "Build it in fp32, or leave operators in fp32 with `keep_fp32:`.")
    try:
        Session(out, threads=1)
    except SourceError as error:
        reason = f"cannot be converted to FP16: the result {error.reason}"
        raise SourceError(str(model), reason, "Build it in fp32, or keep the named operator with `keep_fp32:`.") from error
