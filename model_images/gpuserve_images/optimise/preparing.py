"""Models made ready for ONNX Runtime's quantiser, and the quantiser kept from writing and talking wherever it likes."""

import contextlib
import importlib
import io
import logging
import shutil
import tempfile
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from gpuserve_images.disks import scratch
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.files import external_files, load
from gpuserve_images.onnx_model.session import QUIET
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.gemms import settle
from gpuserve_images.optimise.graph import LEVELS, by_runtime
from gpuserve_images.optimise.saving import INLINE_LIMIT, drop_weight_inputs, name_nodes, save

OPERATORS = ("Conv", "Gemm", "MatMul")
"""Operators that are quantised: where the arithmetic is. Others gain nothing and lose accuracy."""

PER_CHANNEL_OPSET = 13
"""Operator set from which QuantizeLinear and DequantizeLinear have an axis (onnx/docs/Changelog.md); older models are brought to it."""

DEFAULT_SEVERITY = 2
"""ONNX Runtime's own severity, warnings; it cannot be asked for."""

_WRITERS = ("quantize", "quant_utils")
_one_at_a_time = threading.Lock()
"""The quantiser's output is caught by process-wide means, and its activations fill the memory once."""


class Prepared(NamedTuple):
    """A model that the quantiser can take.

    Attributes:
        file: The ONNX file: constants folded, every node named, and no factors left at its `Gemm`s.
        left: Nodes that must not be quantised, each with the reason.
        large: Whether its weights may not fit into one protobuf message.
    """

    file: Path
    left: Mapping[str, str]
    large: bool


@contextlib.contextmanager
def prepared(model: Path, out: Path) -> Generator[Prepared]:
    """Fold constants, name nodes and settle factors, as the quantiser wants it; temporary files lie beside `out`.

    What the quantiser fails with inside is reported as the model's fault.

    Raises:
        SourceError: When the model has nothing to quantise, or the quantiser fails on it.
    """
    import onnx
    import onnx.version_converter

    kinds = {node.op_type for node in load(model).graph.node}
    if not kinds & set(OPERATORS):
        reason = f"has none of the operators that INT8 speeds up ({', '.join(OPERATORS)})"
        raise SourceError(str(model), reason, "Build it in fp32.", value=", ".join(sorted(kinds)))
    try:
        with _quiet(), scratch(out.parent) as folder, _writing_into(folder):
            loaded = onnx.load(model)
            changed = drop_weight_inputs(loaded)
            if read_signature(model).opset < PER_CHANNEL_OPSET:
                loaded = onnx.version_converter.convert_version(loaded, PER_CHANNEL_OPSET)
                changed = True
            plain = folder / "plain.onnx"
            if changed:
                save(loaded, plain)
            loaded = by_runtime(plain if changed else model, LEVELS["basic"], folder)
            name_nodes(loaded)
            left = settle(loaded)
            ready = folder / "prepared.onnx"
            save(loaded, ready)
            yield Prepared(ready, left, _is_large(ready))
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
