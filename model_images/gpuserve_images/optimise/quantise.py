"""Stage 4: INT8, static with measured ranges, or dynamic."""

import contextlib
import importlib
import io
import logging
import shutil
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from gpuserve_images.disks import scratch
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.files import external_files, load
from gpuserve_images.onnx_model.session import QUIET
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.accepted import acceptance
from gpuserve_images.optimise.calibration import CALIBRATION_BATCH, SampleReader
from gpuserve_images.optimise.saving import INLINE_LIMIT, drop_weight_inputs, save
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.records import Progress, StageRecord, sha256_file, silent, tool_versions
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.target import Target

OPERATORS = ("Conv", "Gemm", "MatMul")
"""Operators that are quantised: where the arithmetic is. Others gain nothing and lose accuracy."""

PER_CHANNEL_OPSET = 13
"""Operator set from which QuantizeLinear and DequantizeLinear have an axis (onnx/docs/Changelog.md); older models are brought to it."""

DEFAULT_SEVERITY = 2
"""ONNX Runtime's own severity, warnings; it cannot be asked for."""

_WRITERS = ("quantize", "quant_utils", "shape_inference")
_one_at_a_time = threading.Lock()
"""The quantiser's output is caught by process-wide means, and its activations fill the memory once."""


def quantise_static(  # noqa: PLR0913 - a stage is a function of its files and its options
    model: Path,
    out: Path,
    samples: Sequence[Tensors],
    calibrate: CalibrateSpec,
    target: Target,
    *,
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
        progress: Told about each calibration batch.

    Raises:
        SourceError: When the model has nothing to quantise, or the quantiser fails on it.
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
    size = CALIBRATION_BATCH if read_signature(model).batched else 1
    with _prepared(model, out) as prepared:
        kept = heads(prepared) if calibrate.keep_head else []
        quantize(
            prepared,
            out,
            cast("Any", SampleReader(samples, progress, size=size)),
            nodes_to_exclude=kept,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[calibrate.method],
            use_external_data_format=_is_large(prepared),
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # TensorRT's DequantizeLinear takes no INT32, the type of a quantised bias.
                "QuantizeBias": not symmetric,
                "CalibPercentile": calibrate.percentile,
                # The quantiser's own repair of tiny bias scales compares a whole vector of scales as if it were one (ONNX Runtime
                # 1.31), so it fails on per-channel Gemm; a bias that loses too much shows in the parity instead.
                "QDQDisableWeightAdjustForInt32Bias": True,
            },
        )
    options = {
        "mode": "static",
        "method": calibrate.method,
        "percentile": calibrate.percentile if calibrate.method == "percentile" else None,
        "samples": len(samples),
        "activations": "int8 symmetric" if symmetric else "uint8",
        "operators": list(OPERATORS),
        "kept_in_fp32": kept,
    }
    return _record(model, out, options, (acceptance(model, out),) if symmetric else ())


def quantise_dynamic(model: Path, out: Path) -> StageRecord:
    """Write a model whose weights are INT8 per channel and whose activations get their ranges anew for each request.

    Slower than static, and nearer to the source: no range is frozen.

    Raises:
        SourceError: When the model has nothing to quantise, or the quantiser fails on it.
        OSError: When the disk of `out` is full.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(model, out) as prepared:
        quantize_dynamic(
            prepared,
            out,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=_is_large(prepared),
        )
    return _record(model, out, {"mode": "dynamic", "operators": list(OPERATORS)})


def heads(model: Path) -> list[str]:
    """Return the names of the quantisable nodes that no other one follows; none when that would leave nothing to quantise."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    maker = {output: node for node in graph.node for output in node.output}
    open_tensors = [output.name for output in graph.output]
    seen: set[str] = set()
    found: dict[str, None] = {}
    while open_tensors:
        name = open_tensors.pop()
        node = maker.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in OPERATORS:
            found[node.name] = None
        else:
            open_tensors += node.input
    others = [node.name for node in graph.node if node.op_type in OPERATORS and node.name not in found]
    return sorted(found) if others else []


@contextlib.contextmanager
def _prepared(model: Path, out: Path) -> Generator[Path]:
    """Infer shapes and fold constants, as the quantiser wants it; temporary files lie beside `out`."""
    import onnx
    import onnx.version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    kinds = {node.op_type for node in onnx.load(model, load_external_data=False).graph.node}
    if not kinds & set(OPERATORS):
        reason = f"has none of the operators that INT8 speeds up ({', '.join(OPERATORS)})"
        raise SourceError(str(model), reason, "Build it in fp32.", value=", ".join(sorted(kinds)))
    try:
        with _quiet(), scratch(out.parent) as folder, _writing_into(folder):
            plain, prepared = folder / "plain.onnx", folder / "prepared.onnx"
            loaded = onnx.load(model)
            listed = drop_weight_inputs(loaded)
            if read_signature(model).opset < PER_CHANNEL_OPSET:
                save(onnx.version_converter.convert_version(loaded, PER_CHANNEL_OPSET), plain)
            elif listed:
                save(loaded, plain)
            source = plain if plain.exists() else model
            quant_pre_process(source, prepared, skip_symbolic_shape=True, save_as_external_data=_is_large(model))
            yield prepared
    except (ValueError, RuntimeError, NotImplementedError, AssertionError, KeyError) as error:
        reason = f"cannot be quantised: {type(error).__name__}: {shortened(error)}"
        raise SourceError(
            str(model), reason, "Build it in fp32, calibrate on samples of one shape, or export it with opset 13 or later."
        ) from error


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


def _is_large(model: Path) -> bool:
    """Return whether the weights may not fit into one protobuf message."""
    parsed = load(model)
    return model.stat().st_size + sum(file.stat().st_size for file in external_files(parsed, model)) > INLINE_LIMIT


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    import onnxruntime

    with _one_at_a_time, contextlib.redirect_stdout(io.StringIO()):
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)
        onnxruntime.set_default_logger_severity(QUIET)
        try:
            yield
        finally:
            logger.setLevel(level)
            onnxruntime.set_default_logger_severity(DEFAULT_SEVERITY)


def _record(model: Path, out: Path, options: Mapping[str, object], notes: tuple[str, ...] = ()) -> StageRecord:
    return StageRecord(
        stage="quantise",
        inputs={"model": sha256_file(model)},
        options=options,
        outputs={file.name: sha256_file(file) for file in (out, out.with_name(f"{out.name}.data")) if file.exists()},
        tools=tool_versions("onnx", "onnxruntime"),
        notes=notes,
    )
