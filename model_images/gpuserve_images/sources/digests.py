r"""The digest of a folder.

It is the SHA-256 of the lines `<sha256 of the file>  <path>`, sorted by path in byte order, each ended by a newline: what a shell says
to `find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`. Times, owners, permissions and empty folders are
no content.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gpuserve_images.errors import SourceError
from gpuserve_images.records import sha256_file


def tree_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path with slashes, in byte order.

    A link to a file counts as that file (Hugging Face's cache is made of them); the folder is the user's own.

    Raises:
        SourceError: When it holds no file, a link to a folder, a device, a socket or a pipe, or a name with a line break.
    """
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder, onerror=_raise):
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
