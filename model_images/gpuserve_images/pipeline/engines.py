"""The TensorRT for RTX path: one engine per architecture, built ahead of time on any machine."""

from dataclasses import dataclass
from pathlib import Path

from gpuserve_images.compile.tensorrt import compile_engine, profiles, rtx_module
from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.pipeline.key import engine_architectures, require_build
from gpuserve_images.records import Progress, StageRecord, silent
from gpuserve_images.sources.resolving import resolve
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target


@dataclass(frozen=True)
class EngineBuild:
    """Finished engines.

    Attributes:
        signature: Inputs and outputs, the same as the source model's.
        architectures: What engines were built for, one folder each.
        records: What each stage did.
    """

    signature: Signature
    architectures: tuple[str, ...]
    records: tuple[StageRecord, ...]


def build_engines(  # noqa: PLR0913 - a stage is a function of its files and its options
    model: ModelSpec, build: str, *, folder: Path, out: Path, target: Target, progress: Progress = silent
) -> EngineBuild:
    """Write `<architecture>/model.engine` for each architecture, and `signature.json` beside them.

    An engine cannot run on a machine without that GPU, so nothing is compared here: parity is measured where it first runs.

    Args:
        model: The model.
        build: Name of the build.
        folder: Folder of the model's YAML file.
        out: Folder to write to.
        target: Its architecture narrows the build's; None means all of them.
        progress: Told about each engine.

    Raises:
        SpecError: When the build makes no engine for the target's architecture.
        SourceError: When the model is unusable.
        CompileError: When TensorRT cannot compile it.
    """
    wanted = engine_architectures(build, require_build(model, build), target)
    source = resolve(model.source, folder)
    signature = read_signature(source.path)
    shapes = profiles(signature, model.batch)
    trt = rtx_module()
    records = [source.record]
    for done, architecture in enumerate(wanted):
        progress("compile", done, len(wanted))
        place = out / architecture
        place.mkdir(parents=True)
        records.append(compile_engine(trt, source.path, place / "model.engine", architecture=architecture, shapes=shapes))
    progress("compile", len(wanted), len(wanted))
    (out / "signature.json").write_text(signature.model_dump_json(indent=2), encoding="utf-8")
    return EngineBuild(signature, wanted, tuple(records))
