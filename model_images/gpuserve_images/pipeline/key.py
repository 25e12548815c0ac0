"""The content key: everything that decides the content of an image, so that equal keys mean equal images."""

from pathlib import Path

from gpuserve.kubernetes.errors import Problem, SpecError, suggestion
from gpuserve.kubernetes.spec import plain
from gpuserve_images.bases.serving import base_identity, default_base
from gpuserve_images.records import sha256_file, sha256_json, tool_versions
from gpuserve_images.samples.codec import io_path
from gpuserve_images.samples.picking import sample_set
from gpuserve_images.sources.resolving import resolve
from gpuserve_images.spec import BuildSpec, ModelSpec
from gpuserve_images.target import Target

STAGES_VERSION = 1
"""Raise when a stage or the layout changes what it writes for the same inputs."""

TAG_LENGTH = 40
"""Hex digits of the key that make the tag: 160 bits, far from any collision, and within the 128 characters of an OCI tag."""

ENGINE_TOOLS = {
    "onnxruntime": ("onnx", "onnxruntime"),
    "tensorrt-rtx": ("onnx", "tensorrt-rtx-cu12"),
}


def content_key(model: ModelSpec, build: str, *, folder: Path, target: Target, base: str = "") -> str:
    """Return the key of one build as 64 hex digits, without building anything.

    Args:
        model: The model.
        build: Name of one of its builds.
        folder: Folder of the model's YAML file.
        target: Where it will run.
        base: Base image: a recipe beside this package or an image reference. Default: the target's (see `serving_base`).

    Raises:
        SpecError: When the model has no such build, or not for this target.
        SourceError: When the model file or the samples are missing or damaged.
    """
    spec = require_build(model, build)
    if spec.engine == "tensorrt-rtx":
        engine_architectures(build, spec, target)
    source = resolve(model.source, folder)
    io = io_path(model.io, folder)
    return sha256_json(
        {
            "stages": STAGES_VERSION,
            "name": model.name,
            "source": [source.sha256, *(sha256_file(file) for file in source.external)],
            "io": sha256_file(io) if io else None,
            "build": plain(spec),
            "bars": model.bars(build).stated(),
            "batch": plain(model.batch),
            "verify_batches": list(model.verify_batches()),
            "samples": sample_set(model, build, folder).hashes(),
            "tools": tool_versions(*ENGINE_TOOLS[spec.engine]),
            "target": _runs_on(spec, target),
            "base": base_identity(base or default_base(target)) if spec.engine == "onnxruntime" else None,
        }
    )


def engine_architectures(build: str, spec: BuildSpec, target: Target) -> tuple[str, ...]:
    """Return the architectures to make engines for: the target's, or all of the build's where the target names none.

    Raises:
        SpecError: When the build makes no engine for the target's architecture: another one's does not run there.
    """
    wanted = target.architecture
    if wanted is None:
        return spec.architectures
    if wanted not in spec.architectures:
        reason = f"makes no engine for {wanted}, the architecture of the pool's GPUs"
        fix = f"add {wanted} to `architectures`"
        raise SpecError([Problem(f"builds.{build}.architectures", list(spec.architectures), reason, fix)])
    return (wanted,)


def image_tag(key: str) -> str:
    """Return the image tag of a key."""
    return key[:TAG_LENGTH]


def image_reference(model: ModelSpec, key: str, registry: str) -> str:
    """Return the address of an image by tag: known before it is built.

    Args:
        model: The model.
        key: Its content key.
        registry: Registry and path prefix, such as `localhost:5000/models`.
    """
    return f"{registry}/{model.name}:{image_tag(key)}"


def require_build(model: ModelSpec, build: str) -> BuildSpec:
    """Return a build of a model.

    Raises:
        SpecError: When it has none of that name.
    """
    if build not in model.builds:
        raise SpecError([Problem("build", build, f"model {model.name!r} has no such build", suggestion(build, model.builds))])
    return model.builds[build]


def _runs_on(spec: BuildSpec, target: Target) -> list[str]:
    """Return what of the target decides the content: ONNX files do not know GPUs, engines know nothing else."""
    if spec.engine == "onnxruntime":
        return [target.server, target.kind]
    return list(spec.architectures if target.architecture is None else (target.architecture,))
