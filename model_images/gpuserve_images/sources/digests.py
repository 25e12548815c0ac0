r"""The digest of a folder.

It is the SHA-256 of the lines `<sha256 of the file>  <path>`, sorted by path in byte order, each ended by a newline: what a shell says to

    find . -type d \( -name .git -o -path '*/.cache/huggingface' \) -prune -o -type f -printf '%P\0' |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum

Times, owners, permissions and empty folders are no content, nor is what Git and the Hugging Face tools keep beside a model.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gpuserve_images.errors import SourceError
from gpuserve_images.records import sha256_file

_LEFT_OUT = (".git", ".cache/huggingface")


def left_out(path: str) -> bool:
    """Tell whether a path below a model's folder is in one that Git or the Hugging Face tools keep there.

    They say where a model came from, and may hold the token that it took.

    Args:
        path: The path with slashes; of a folder with one at its end.
    """
    return any(f"/{folder}/" in f"/{path}" for folder in _LEFT_OUT)


def tree_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path with slashes, in byte order.

    A link to a file counts as that file (Hugging Face's cache is made of them); the folder is the user's own. The folders `.git` and
    `.cache/huggingface` are passed over.

    Raises:
        SourceError: When it holds no file, a link to a folder, a device, a socket or a pipe, or a name with a line break.
    """
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not left_out(f"{Path(parent, name).relative_to(folder).as_posix()}/")]
        for name in folders:
            if (linked := Path(parent, name)).is_symlink():
                raise SourceError(str(linked), "is a link to a folder", "Copy that folder here, or name it itself.")
        for name in files:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if "\n" in relative or "\\" in relative:
                raise SourceError(repr(str(path)), "has a line break or backslash in its name", "Rename the file.")
            if not path.exists():
                raise SourceError(
                    str(path), "is a link to a file that does not exist", "Copy that file here, or remove the link."
                )
            if not stat.S_ISREG(path.stat().st_mode):
                raise SourceError(str(path), "is no plain file", "Remove it from the model's folder.")
            found[relative] = path
    if not found:
        raise SourceError(str(folder), "holds no files", "Name a model file, or a folder with one.")
    return dict(sorted(found.items(), key=lambda item: os.fsencode(item[0])))


def tree_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of a folder from the SHA-256 of its files by path."""
    lines = sorted((os.fsencode(path), digest) for path, digest in digests.items())
    return hashlib.sha256(b"".join(digest.encode() + b"  " + path + b"\n" for path, digest in lines)).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the digest of a folder on this machine.

    Raises:
        SourceError: As `tree_files`.
    """
    return tree_digest({name: sha256_file(path) for name, path in tree_files(folder).items()})


def _raise(error: OSError) -> None:
    raise SourceError(str(error.filename), f"cannot be read: {error.strerror}", "Allow reading it.") from error
