"""The content key: everything that decides the content of an image, so that equal keys mean equal images."""

from pathlib import Path

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.outputs import is_output
from gpuserve_images.errors import ImageError
from gpuserve_images.oci.reference import Reference
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target

TAG_LENGTH = 40
"""Hex digits of the key that make the tag: 160 bits, far from any collision, and within the 128 characters of an OCI tag."""


def content_key(model: ModelSpec, build: str, *, folder: Path, target: Target, base: str = "") -> str:
    """Return the key of one build as 64 hex digits, without building anything.

    Args:
        model: The model.
        build: Name of one of its builds.
        folder: Folder of the model's YAML file.
        target: Where it will run.
        base: Base image: a recipe beside this package or an image reference. Default: the target's (see `default_base`).

    Raises:
        SpecError: When the model has no such build, or not for this target.
        SourceError: When the model file or the samples are missing or damaged.
    """
    # Where an image is can be said without all that builds one.
    from gpuserve_images.pipeline.chain import plan
    from gpuserve_images.pipeline.job import Job

    return plan(Job(model, build, folder, target), base).key


def image_tag(key: str) -> str:
    """Return the image tag of a key."""
    return key[:TAG_LENGTH]


def image_reference(model: ModelSpec, key: str, registry: str) -> str:
    """Return the address of an image by tag: known before it is built.

    Args:
        model: The model.
        key: Its content key.
        registry: Registry and path prefix, such as `localhost:5000/models`.

    Raises:
        SpecError: When that is no registry, or not known yet.
    """
    require_registry(registry)
    return f"{registry}/{model.name}:{image_tag(key)}"


def require_registry(registry: object, field: str = "registry") -> None:
    """Refuse what no image of a model can be called after.

    Args:
        registry: Registry and path prefix, such as `localhost:5000/models`.
        field: What it is said to be the value of.

    Raises:
        SpecError: When that is no registry, or an Output, of which nobody knows yet what is there.
    """
    if is_output(registry):
        reason = "is a Pulumi Output, but must be known at plan time: a preview asks it what is there"
        raise SpecError.of(field, None, reason, "pass a plain value, for example from the stack's configuration")
    if not _holds_images(registry):
        near = registry.rpartition("://")[2].strip("/ \n").lower() if isinstance(registry, str) else ""
        fix = f"write {near!r}" if _holds_images(near) else "write for example 'localhost:5000/models'"
        reason = "is no registry with a path of lower-case names, without a scheme and without a tag"
        raise SpecError.of(field, registry, reason, fix)


def _holds_images(registry: object) -> bool:
    try:
        Reference.parse(f"{registry}/model")
    except ImageError:
        return False
    return isinstance(registry, str)
