"""Engines: one code path for TensorRT and TensorRT for RTX, whose module is passed in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from gpuserve_images.compile.alone import alone
from gpuserve_images.compile.builders import architectures, crosses
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus, find_gpus
from gpuserve_images.compile.inspection import EngineSummary, summarise_engine, summarise_network
from gpuserve_images.compile.lean import require_lean_runtime
from gpuserve_images.compile.options import apply
from gpuserve_images.compile.parsing import parse
from gpuserve_images.compile.profiles import Profile
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.compile.starting import make_builder, make_logger
from gpuserve_images.compile.timing import TimingCache, caches_folder, wanted
from gpuserve_images.compile.visible import VARIABLE
from gpuserve_images.onnx_model.files import load
from gpuserve_images.onnx_model.operators import in_half
from gpuserve_images.records import StageRecord, sha256_file

Find = Callable[[], Gpus]


@alone
def compile_engine(  # noqa: PLR0913 - a stage is a function of its files and its options
    trt: ModuleType,
    model: Path,
    out: Path,
    *,
    architecture: str,
    shapes: Mapping[str, Profile],
    options: CompileSpec = CompileSpec(),  # noqa: B008 - frozen
    caches: Path | None = None,
    gpus: Find = find_gpus,
) -> StageRecord:
    """Build one engine for one GPU architecture.

    TensorRT for RTX builds for GPUs that are not here; TensorRT builds on the GPU itself, because it measures kernels on it.

    Args:
        trt: The builder (`builder_module`).
        model: The ONNX model; its precision is the engine's (networks are strongly typed).
        out: Where to write the engine.
        architecture: Such as `sm_80`.
        shapes: Profile of each input.
        options: How to build.
        caches: Folder of timing caches. Default: `$XDG_CACHE_HOME/gpuserve/timing`.
        gpus: Looks for GPUs.

    Raises:
        CompileError: Before anything starts when the architecture is unknown, its GPU is needed and absent, or the builder lacks an option;
            then when an operator is not supported, or the build fails.
    """
    gpu = require_buildable(trt, architecture, options, gpus)
    logger = make_logger(trt)
    builder = make_builder(trt, logger)
    config = builder.create_builder_config()
    apply(trt, config, options, logger)
    # Layers tell their types to the inspector only then; the engine is as large and as quick.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if crosses(trt):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, architecture.replace("sm_", "SM")), 0)
    network = builder.create_network(0)
    parse(trt, network, logger, model, shapes)
    config.add_optimization_profile(_profile(builder, shapes))
    cache = TimingCache(trt, caches or caches_folder(), architecture=architecture, gpu=gpu) if wanted(trt, options) else None
    # The builder does not own the cache that it uses: it must live as long as the build.
    times = cache.load(config) if cache else None
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _failed(trt, model, architecture, options, logger)
    data = bytes(memoryview(engine))
    out.write_bytes(data)
    notes = list(dict.fromkeys(logger.warnings))
    if cache and times is not None:
        notes.append(f"timing cache {cache.path.name}: {cache.keep(config)} bytes")
    summary = _summary(trt, network, data, logger, gpu)
    return _record(trt, model, out, architecture, shapes, options, summary, notes)


def require_buildable(trt: ModuleType, architecture: str, options: CompileSpec, gpus: Find = find_gpus) -> str:
    """Check that this machine can build for an architecture, and return the name of the GPU that it builds on; empty where it needs none.

    Args:
        trt: The builder.
        architecture: Such as `sm_80`.
        options: How to build.
        gpus: Looks for GPUs.

    Raises:
        CompileError: When the builder does not know the architecture, or the GPU or the library that it needs is not here.
    """
    name = f"{trt.__name__} {trt.__version__}"
    if not crosses(trt):
        gpu = _matching_gpu(name, architecture, gpus())
        if options.version_compatible:
            require_lean_runtime(trt)
        return gpu
    known = architectures(trt)
    if architecture not in known:
        fix = f"{name} builds for {', '.join(known)}."
        raise CompileError("architectures", "is no architecture of this builder", fix, value=architecture)
    if options.refit and not (found := gpus()).visible:
        reason = f"needs a GPU's driver in {name}, which compiles weights into kernels while it builds, and {found.reason}"
        raise CompileError("compile.refit", reason, "Build it on a machine with a GPU, or remove `refit:`.", value="True")
    return ""


def _matching_gpu(name: str, architecture: str, gpus: Gpus) -> str:
    """Return the name of the GPU that CUDA gives first, which is the one that TensorRT uses, when it has the architecture."""
    able = [gpu for gpu in (*gpus.visible, *gpus.found) if gpu.architecture == architecture]
    # The UUID, because a number means another GPU in CUDA's own order than in the bus's.
    choose = f"Set {VARIABLE}={able[0].choosing}." if able else ""
    if not gpus.visible:
        reason = f"is built on a GPU of that architecture with {name}, and {gpus.reason}"
        other = "or build it as a Job on the pool, or write `engine: tensorrt-rtx`, which needs no GPU."
        raise CompileError("architectures", reason, choose or f"{gpus.fix.rstrip('.')}; {other}", value=architecture)
    first = gpus.visible[0]
    if gpus.choice.certain and first.architecture == architecture:
        return first.name
    there = ", ".join(f"{gpu.name} ({gpu.architecture})" for gpu in gpus.found)
    reason = f"is built on a GPU of that architecture with {name}, and this machine has {there}"
    if not gpus.choice.certain:
        reason += ", of which CUDA takes the fastest first"
    elif len(gpus.found) > 1:
        reason += f", of which CUDA takes {first.name} first"
    fix = choose or "Build it on a machine with that GPU, or name this one's architecture."
    raise CompileError("architectures", reason, fix, value=architecture)


def _profile(builder: Any, shapes: Mapping[str, Profile]) -> Any:
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.smallest, shape.tuned, shape.largest)
    return profile


def _summary(trt: ModuleType, network: Any, engine: bytes, logger: Any, gpu: str) -> EngineSummary:
    asked = summarise_engine(trt, engine, logger) if gpu else None
    return asked or summarise_network(network, logger)


def _failed(trt: ModuleType, model: Path, architecture: str, options: CompileSpec, logger: Any) -> CompileError:
    chosen = options.chosen()
    wished = f" with {', '.join(f'{name}: {value}' for name, value in chosen.items())}" if chosen else ""
    said = logger.last or "it gave no reason"
    reason = f"could not be compiled for {architecture} by {trt.__name__} {trt.__version__}{wished}: {said}"
    if "FP32" in said and "not supported" in said:
        # TensorRT for RTX has no FP32 matrix kernels for Turing.
        fix = "Part of it is FP16 already: export the rest in FP16 too, or convert it with `precision: fp16` and without `keep_fp32:`."
        return CompileError(str(model), reason, fix if in_half(load(model)) else "Write `precision: fp16`.")
    fix = (
        "Remove options from `compile:`, or simplify the model."
        if chosen
        else "Simplify the model, or build it for ONNX Runtime."
    )
    return CompileError(str(model), reason, fix)


def _record(  # noqa: PLR0913, PLR0917 - hands one build's facts on
    trt: ModuleType,
    model: Path,
    out: Path,
    architecture: str,
    shapes: Mapping[str, Profile],
    options: CompileSpec,
    summary: EngineSummary,
    notes: list[str],
) -> StageRecord:
    return StageRecord(
        stage="compile",
        inputs={"model": sha256_file(model)},
        options={
            "architecture": architecture,
            **options.model_dump(mode="json"),
            "profiles": {name: shape.plain() for name, shape in shapes.items()},
            "summary": summary.model_dump(mode="json"),
        },
        outputs={out.name: sha256_file(out)},
        tools={trt.__name__: trt.__version__},
        notes=tuple(notes),
    )
