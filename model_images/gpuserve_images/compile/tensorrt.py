"""Stage 4 for GPUs: TensorRT engines; the builder module is passed in, so that TensorRT and TensorRT for RTX share this code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gpuserve_images.errors import ImageError
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature
from gpuserve_images.records import StageRecord, sha256_file

WORKSPACE = 1 << 30
"""Bytes that tactics may use while they run. 1 GiB: TensorRT's samples use it, and every data centre GPU has it free."""


class CompileError(ImageError):
    """TensorRT cannot make an engine of the model."""


@dataclass(frozen=True)
class Profile:
    """Shapes of one input that an engine accepts, and the one it is tuned for."""

    smallest: tuple[int, ...]
    tuned: tuple[int, ...]
    largest: tuple[int, ...]


def profiles(signature: Signature, batch: BatchSpec) -> dict[str, Profile]:
    """Derive the profile of each input from the signature and the batch range.

    Raises:
        CompileError: When another axis than the batch is free.
    """
    result: dict[str, Profile] = {}
    for tensor in signature.inputs:
        fixed = tensor.shape[1:] if signature.batched else tensor.shape
        if DYNAMIC in fixed:
            reason = "has a free axis besides the batch, and an engine needs bounds for each"
            fix = "Export the model with that axis fixed."
            raise CompileError(f"input {tensor.name}", reason, fix, value=str(list(tensor.shape)))
        sizes = (1, batch.sizes[0], batch.max)
        shapes = [(size, *fixed) for size in sizes] if signature.batched else [fixed] * 3
        result[tensor.name] = Profile(*shapes)
    return result


def rtx_module() -> ModuleType:
    """Return TensorRT for RTX.

    Raises:
        CompileError: When it is not installed.
    """
    try:
        import tensorrt_rtx
    except ImportError as error:
        fix = "Install it: pip install tensorrt-rtx-cu12"
        raise CompileError("engine", f"TensorRT for RTX is not installed: {error}", fix, value="tensorrt-rtx") from error
    return tensorrt_rtx


def architectures(trt: ModuleType) -> tuple[str, ...]:
    """Return the architectures that this builder can make engines for without a GPU."""
    names = (name for name in dir(trt.ComputeCapability) if name.startswith("SM") and name[2:].isdigit())
    return tuple(sorted((f"sm_{name[2:]}" for name in names), key=lambda name: int(name[3:])))


def compile_engine(  # noqa: PLR0913 - a stage is a function of its files and its options
    trt: ModuleType, model: Path, out: Path, *, architecture: str, shapes: Mapping[str, Profile], workspace: int = WORKSPACE
) -> StageRecord:
    """Build one engine for one GPU architecture, which need not be present.

    Args:
        trt: The builder: the module `tensorrt_rtx`.
        model: The source ONNX model; its precision is the engine's (networks are strongly typed).
        out: Where to write the engine.
        architecture: Such as `sm_80`.
        shapes: Profile of each input.
        workspace: Bytes that tactics may use.

    Raises:
        CompileError: When the architecture is unknown, an operator is not supported, or the build fails.
    """
    known = architectures(trt)
    if architecture not in known:
        fix = f"TensorRT {trt.__version__} builds for {', '.join(known)}."
        raise CompileError("architectures", "is no architecture of this builder", fix, value=architecture)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    _parse(trt, network, logger, model)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, architecture.replace("sm_", "SM")), 0)
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.smallest, shape.tuned, shape.largest)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        reason = f"could not be compiled for {architecture}: {logger.last or 'TensorRT gave no reason'}"
        raise CompileError(str(model), reason, "Simplify the model, or build it for ONNX Runtime.")
    out.write_bytes(memoryview(engine))
    return StageRecord(
        stage="compile",
        inputs={"model": sha256_file(model)},
        options={
            "architecture": architecture,
            "workspace": workspace,
            "profiles": {
                name: [list(shape.smallest), list(shape.tuned), list(shape.largest)] for name, shape in shapes.items()
            },
        },
        outputs={out.name: sha256_file(out)},
        tools={trt.__name__: trt.__version__},
        notes=tuple(logger.warnings),
    )


def _parse(trt: ModuleType, network: Any, logger: Any, model: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(model)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    details = "; ".join(f"{error.node_operator()} {error.node_name()!r}: {error.desc()}" for error in errors)
    reason = f"is not accepted by TensorRT's parser: {details or logger.last}"
    raise CompileError(str(model), reason, "Replace those operators, or build it for ONNX Runtime.")


def _logger(trt: ModuleType) -> Any:
    class Logger(trt.ILogger):
        """Keeps what TensorRT says for the record, instead of printing it."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: list[str] = []
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = message
            elif severity == trt.ILogger.Severity.WARNING and message not in self.warnings:
                self.warnings.append(message)

    return Logger()
