"""The content key: everything that decides the content of an image, so that equal keys mean equal images."""

from pathlib import Path

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
    """
    return f"{registry}/{model.name}:{image_tag(key)}"
