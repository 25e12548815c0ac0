"""Which base image a target stands on, and what identifies it before it is built."""

from collections.abc import Sequence

from gpuserve_images.bases.recipes import RECIPES, ensure_base, recipe_tag
from gpuserve_images.errors import BaseImageError
from gpuserve_images.oci.reference import Reference
from gpuserve_images.records import Progress
from gpuserve_images.target import Target

SERVERS = {
    ("triton", "cpu"): "triton-cpu",
    # NVIDIA's 26.07-py3 for linux/amd64, by digest as `intrinsic-ai/intrinsic-core` pins it in its MODULE.bazel (release 20260922.0).
    ("triton", "gpu"): "nvcr.io/nvidia/tritonserver@sha256:551599c0812bb706121410a71abda07f9920d25e6c66edf1ec07a375e49f5f90",
}

DEFAULT_TENSORRT = "11.1.0.106"
"""TensorRT of Triton's image above, and of the extra `tensorrt`: 26.07 stands on CUDA 13.3.1 (its release notes), whose base names this one."""

TENSORRT = "TRT_VERSION"
"""Environment variable of NVIDIA's images with the version of their TensorRT, such as `11.1.0.106`."""

SCRATCH = "scratch"
"""Base of an image that holds a model and no server, to be mounted as a volume."""


def default_base(target: Target) -> str:
    """Return the base of a target: the name of a recipe folder, or an image reference.

    Raises:
        BaseImageError: When none is known for the server.
    """
    base = SERVERS.get((target.server, target.kind))
    if base is None:
        reason = f"no base image is known for {target.server} on a {target.kind}"
        fix = "Give `base:` in the build: an image reference by digest, or `scratch` for an image of the model alone."
        raise BaseImageError("base", reason, fix)
    return base


def require_base(base: str) -> None:
    """Refuse, before anything is built, a base that no registry and no folder of recipes can have.

    Args:
        base: Name of a recipe folder, `scratch`, or an image reference.

    Raises:
        BaseImageError: When it is the name of no recipe.
        ImageError: When it is no reference.
    """
    if not _is_recipe(base):
        Reference.parse(base)
    elif not (RECIPES / base / "Dockerfile").is_file():
        recipes = sorted(name for name in SERVERS.values() if _is_recipe(name))
        known = ", ".join([SCRATCH, *recipes])
        fix = f"Write one of {known}, or an image's reference with a registry, a tag or a digest, such as debian:13."
        raise BaseImageError(f"base ({base})", "is the name of no recipe, and a reference has `/` or `:` in it", fix)


def tensorrt_of(base: str, platforms: Sequence[str] = ()) -> str:
    """Return the version of TensorRT in a base image; empty where the base does not say.

    Args:
        base: Name of a recipe folder, `scratch`, or an image reference.
        platforms: Platforms of the image that stands on it. Default: the base's.

    Raises:
        RegistryError: The registry lacks the base, refused or is down.
    """
    if base == SCRATCH or _is_recipe(base):
        return ""
    from gpuserve_images.oci import environment  # HTTP, which a plan does without

    return environment(base, platforms).get(TENSORRT, "")


def base_identity(base: str) -> str:
    """Return what decides a base's content: a recipe's files, or the reference itself."""
    return f"{base}:{recipe_tag(RECIPES / base)}" if _is_recipe(base) else base


def ensure(base: str, registry: str, progress: Progress) -> str:
    """Return the reference of a base; a recipe's image is built first where the registry lacks it.

    Args:
        base: Name of a recipe folder, or an image reference.
        registry: Registry and path prefix of the models; the recipe's image goes to the same registry, so that its layers are
            mounted and not copied.
        progress: Told about each step of that build.
    """
    if not _is_recipe(base):
        return base
    return ensure_base(base, registry.split("/", 1)[0], lambda line: progress(f"base: {line}", 0, 0))


def _is_recipe(base: str) -> bool:
    return base != SCRATCH and "/" not in base and ":" not in base
