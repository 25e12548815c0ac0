"""Pointers of Git LFS: the few lines that lie in place of a large file until `git lfs pull` brings it."""

from collections.abc import Mapping
from pathlib import Path

from gpuserve_images.errors import SourceError

POINTER = b"version https://git-lfs.github.com/spec/"
"""How a pointer begins. Source: https://github.com/git-lfs/git-lfs, `docs/spec.md`."""

FIX = "Run `git lfs pull` in the folder, or download again."


def is_pointer(path: Path) -> bool:
    """Tell whether a file is a pointer."""
    with path.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def refuse_pointers(field: str, files: Mapping[str, Path]) -> None:
    """Refuse files of a model that are not there yet.

    Args:
        field: The field that named the model, for messages.
        files: The files by name.

    Raises:
        SourceError: Naming those that are pointers.
    """
    pointers = [name for name, path in sorted(files.items()) if is_pointer(path)]
    if pointers:
        reason = "is no more than a pointer of Git LFS" if len(pointers) == 1 else "are no more than pointers of Git LFS"
        raise SourceError(field, reason, FIX, value=", ".join(pointers))
