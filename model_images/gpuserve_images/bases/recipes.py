"""Base images: built once from an ordinary Dockerfile when a registry lacks them, by buildah, without a daemon.

A recipe is a folder in `model_images/` with a Dockerfile, or one target of it where that makes several images. Its image is tagged with a
hash of the folder, so it is built again exactly when the recipe changes.
"""

import fcntl
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gpuserve_images import folders
from gpuserve_images.bases.commands import Report, silent
from gpuserve_images.errors import BaseImageError

# Enough of a SHA-256 that no two recipes meet, short enough to read in `image:` lines; Git's length.
_TAG_CHARACTERS = 40


def _recipes() -> Path:
    """Return the folder of the recipes: beside this package in a checkout, and where the wheel puts them in an installation."""
    beside = Path(__file__).resolve().parents[2]
    installed = beside / "gpuserve_recipes"
    return installed if installed.is_dir() else beside


RECIPES = _recipes()
"""The folder that holds the image recipes."""


def recipe_tag(folder: Path) -> str:
    """Return the tag of a recipe's image: a hash over its files' names, modes and contents.

    Args:
        folder: The recipe, e.g. `model_images/triton-cpu`.
    """
    sha256 = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        content = path.read_bytes()
        executable = bool(path.stat().st_mode & 0o100)
        sha256.update(f"{path.relative_to(folder).as_posix()}\0{executable}\0{len(content)}\0".encode())
        sha256.update(content)
    return sha256.hexdigest()[:_TAG_CHARACTERS]


def ensure_base(recipe: str, registry: str, progress: Report = silent, *, target: str = "") -> str:
    """Return the reference of a recipe's image, building and pushing it when the registry lacks it.

    Args:
        recipe: Name of a folder in `model_images/`, e.g. `triton-cpu`.
        registry: Host of the registry that holds base images, e.g. `localhost:5000`.
        progress: Called with a line of text now and then. Default: silence.
        target: Stage of the Dockerfile whose image is wanted, which is then named after it. Default: the last stage, and the recipe's name.

    Returns:
        `<registry>/gpuserve/<name>:<hash of the recipe>`. When it was there: one request, and nothing else.

    Raises:
        BaseImageError: The recipe is unknown, a tool is missing, or a build failed (with the last lines of its log).
        RegistryError: The registry is down or refused.
    """
    from gpuserve_images.bases import buildah, debian
    from gpuserve_images.oci import resolve

    folder = _recipe_folder(recipe)
    reference = f"{registry}/gpuserve/{target or recipe}:{recipe_tag(folder)}"
    if resolve(reference):
        return reference
    work = work_folder()
    with _only_one(work.with_suffix(".lock")):
        # Another process may have built it while this one waited.
        if not resolve(reference):
            debian.ensure_roots(folder / "Dockerfile", registry, progress)
            buildah.build(folder, reference, work=work, report=progress, target=target)
    return reference


def work_folder() -> Path:
    """Return where images are built: there is none when no build is under way; the lock of the builds lies beside it."""
    return folders.cache("buildah")


def _recipe_folder(recipe: str) -> Path:
    folder = RECIPES / recipe
    if not (folder / "Dockerfile").is_file():
        known = ", ".join(sorted(path.parent.name for path in RECIPES.glob("*/Dockerfile"))) or "none"
        raise BaseImageError(
            f"base image {recipe}", f"there is no {folder / 'Dockerfile'}", f"Use one of these recipes: {known}"
        )
    return folder


@contextmanager
def _only_one(lock: Path) -> Generator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
