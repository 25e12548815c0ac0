"""Stage 4: INT8, static with measured ranges, or dynamic."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.graphs import all_graphs
from gpuserve_images.onnx_model.operators import SHOWN, all_nodes
from gpuserve_images.onnx_model.session import runtime_errors
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.onnx_model.trial import fatal
from gpuserve_images.optimise.accepted import acceptance
from gpuserve_images.optimise.calibration import CALIBRATION_BATCH, SampleReader
from gpuserve_images.optimise.kept import DYNAMIC, INTEGER, KEPT, OPERATORS
from gpuserve_images.optimise.preparing import Prepared, nothing_quantised, prepared
from gpuserve_images.optimise.saving import put_back, sort_nodes
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.records import Progress, StageRecord, sha256_file, silent, tool_versions
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.target import Target


def quantise_static(  # noqa: PLR0913 - a stage is a function of its files and its options
    model: Path,
    out: Path,
    samples: Sequence[Tensors],
    calibrate: CalibrateSpec,
    target: Target,
    *,
    keep: Sequence[str] = (),
    names: Sequence[str] = (),
    batched: bool | None = None,
    progress: Progress = silent,
) -> StageRecord:
    """Write a model with Q/DQ pairs around `OPERATORS`: INT8 weights per channel, activations in ranges measured on samples.

    Activations are UINT8 with a zero point for CPU kernels, and symmetric INT8 for GPUs, where TensorRT accepts nothing else.

    Args:
        model: The ONNX file to quantise.
        out: Where to write the result.
        samples: Encoded calibration samples.
        calibrate: The method.
        target: Where it will run.
        keep: Operators or node names to leave in fp32.
        names: What errors call the samples besides their numbers, such as their files. Default: nothing.
        batched: Whether samples can be joined. Default: where the model's first axes are free.
        progress: Told about each calibration batch.

    Raises:
        SourceError: When the model has nothing to quantise, `keep` names no layer, or the quantiser fails on it.
        OSError: When the disk of `out` is full.
        CompileError: When the target is a GPU, and TensorRT accepts the model and not the result.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    methods = {
        "percentile": CalibrationMethod.Percentile,
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
    }
    symmetric = target.kind == "gpu"
    # A model without a batch axis takes one sample at a time.
    joined = read_signature(model).batched if batched is None else batched
    size = CALIBRATION_BATCH if joined else 1
    reader = SampleReader(samples, progress, size=size, names=names)
    with prepared(model, out, keep=keep, keep_head=calibrate.keep_head) as ready, _told(model, out, reader):
        quantize(
            ready.file,
            out,
            cast("Any", reader),
            nodes_to_exclude=[*ready.heads, *ready.left],
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[calibrate.method],
            use_external_data_format=ready.large,
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # TensorRT's DequantizeLinear takes no INT32, the type of a quantised bias.
                "QuantizeBias": not symmetric,
                "CalibPercentile": calibrate.percentile,
            },
        )
    options = {
        "mode": "static",
        "method": calibrate.method,
        "percentile": calibrate.percentile if calibrate.method == "percentile" else None,
        "samples": len(samples),
        "activations": "int8 symmetric" if symmetric else "uint8",
        "operators": list(OPERATORS),
        "kept_in_fp32": list(dict.fromkeys([*ready.heads, *_named(ready)])),
    }
    counted = _finished(model, out, ready)
    return _record(model, out, options, (counted, acceptance(model, out)) if symmetric else (counted,))


def quantise_dynamic(model: Path, out: Path, *, keep: Sequence[str] = ()) -> StageRecord:
    """Write a model whose matrix products have INT8 weights per channel, and activations whose ranges are found anew for each request.

    Slower than static, and nearer to the source: no range is frozen. Convolutions stay in FP32 (see `CONVOLVED`).

    Args:
        model: The ONNX file to quantise.
        out: Where to write the result.
        keep: Operators or node names to leave in fp32.

    Raises:
        SourceError: When the model has nothing to quantise, `keep` names no layer, or the quantiser fails on it.
        OSError: When the disk of `out` is full.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with prepared(model, out, keep=keep, dynamic=True) as ready:
        quantize_dynamic(
            ready.file,
            out,
            # In this mode it makes a MatMul and an Add of each Gemm first.
            nodes_to_exclude=[*ready.left, *(f"{name}_MatMul" for name in ready.left)],
            op_types_to_quantize=list(DYNAMIC),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=ready.large,
        )
    return _record(
        model,
        out,
        {"mode": "dynamic", "operators": list(DYNAMIC), "kept_in_fp32": _named(ready)},
        (_finished(model, out, ready),),
    )


@contextlib.contextmanager
def _told(model: Path, out: Path, reader: SampleReader) -> Generator[None]:
    """Name the sample that a model fails on while ranges are measured, or that leaves one without an end."""
    try:
        yield
        _require_ends(out)
    except runtime_errors() as error:
        sample = reader.culprit(model)
        if not sample:
            raise
        reason = f"fails while ranges are measured{sample}: {shortened(error)}"
        raise SourceError(str(model), reason, "Correct the sample, or what the model takes.") from error
    except (ValueError, AssertionError) as error:
        sample = reader.endless()
        if not sample:
            raise
        reason = f"cannot be quantised: {sample}, so that a range has no end: {shortened(error)}"
        raise SourceError(str(model), reason, "Correct the sample, or leave it out.") from error


def _require_ends(model: Path) -> None:
    """Refuse a quantised model with a range without an end: ONNX Runtime writes one, and answers zeros.

    Raises:
        ValueError: Naming the scale.
    """
    import numpy as np
    import onnx

    made = onnx.load(model, load_external_data=False)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        scale = weights.get(node.input[1]) if node.op_type == "QuantizeLinear" else None
        if scale is not None and not np.isfinite(onnx.numpy_helper.to_array(scale)).all():
            msg = f"the range of {node.input[0]!r} is not finite"
            raise ValueError(msg)


def _finished(model: Path, out: Path, ready: Prepared) -> str:
    """Bring the result into order, and return in a sentence how much of a model became INT8.

    The quantiser overlooks what branches read when it sorts nodes.

    Raises:
        SourceError: When nothing did, or ONNX Runtime ends the process that loads the result.
    """
    import onnx

    made = onnx.load(out, load_external_data=False)
    before = made.SerializeToString(deterministic=True)
    put_back(made, ready.outputs)
    sort_nodes(made.graph)
    if made.SerializeToString(deterministic=True) != before:
        onnx.save(made, out)
    # Seen where a branch reads what is quantised (ONNX Runtime 1.31).
    ended = fatal(out) if len(list(all_graphs(made.graph))) > 1 else None
    if ended:
        reason = (
            f"ends the process that loads it once it is INT8: ONNX Runtime fails on its branches or loops ({shortened(ended)})"
        )
        fix = (
            "Export the model without branches and loops, leave layers beside them in fp32 (`keep_fp32:`), or build it in fp32."
        )
        raise SourceError(str(model), reason, fix)
    nodes = list(all_nodes(made.graph.node))
    maker = {name: node.op_type for node in nodes for name in node.output}
    done = sum(
        node.op_type in INTEGER
        or (
            node.op_type in OPERATORS
            and node.name not in ready.left
            and all(maker.get(name) == "DequantizeLinear" for name in node.input[:2])
        )
        for node in nodes
    )
    done -= ready.integers
    if not done:
        raise nothing_quantised(model, ready.layers, ready.left)
    left = "".join(f"; {name} is not: {reason}" for name, reason in list(ready.left.items())[:SHOWN])
    more = f"; and {len(ready.left) - SHOWN} more" if len(ready.left) > SHOWN else ""
    return f"{done} of {ready.layers} layers ({', '.join(OPERATORS)}) are INT8{left}{more}"


def _named(ready: Prepared) -> list[str]:
    return [name for name, reason in ready.left.items() if reason == KEPT]


def _record(model: Path, out: Path, options: Mapping[str, object], notes: tuple[str, ...] = ()) -> StageRecord:
    return StageRecord(
        stage="quantise",
        inputs={"model": sha256_file(model)},
        options=options,
        outputs={file.name: sha256_file(file) for file in (out, out.with_name(f"{out.name}.data")) if file.exists()},
        tools=tool_versions("onnx", "onnxruntime"),
        notes=notes,
    )
