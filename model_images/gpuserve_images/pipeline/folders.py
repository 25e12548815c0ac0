"""The folder of finished stages as a folder: what it means that it cannot be used, and which disk is full."""

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpuserve_images.disks import FULL, is_full, too_large
from gpuserve_images.errors import ImageError

_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.EEXIST})


class StoreError(ImageError):
    """The folder of finished stages cannot be used."""


@contextmanager
def usable(root: Path) -> Generator[None]:
    """Turn an error of the system about a folder into a sentence; one about other files stays as it is.

    Args:
        root: The folder.

    Raises:
        StoreError: When a disk is full, a file may not grow, or the folder is none or is closed to this user.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _full(error, root) from error
        if error.errno == errno.EFBIG:
            raise StoreError(str(error.filename or root), *too_large()) from error
        closed = error.errno in _CLOSED and (error.filename is None or _about(error, root))
        # Making a folder that may not be made, such as one below /proc.
        if closed or (error.errno == errno.ENOENT and error.filename is not None and root.is_relative_to(str(error.filename))):
            fix = "Set XDG_CACHE_HOME to a folder that can."
            raise StoreError(str(root), f"cannot be used: {error}", fix) from error
        if error.errno in _NO_FOLDER and _about(error, root):
            file = next((path for path in (root, *root.parents) if path.exists() and not path.is_dir()), error.filename)
            raise StoreError(str(root), f"cannot be a folder: {file} is none", "Set XDG_CACHE_HOME to a folder.") from error
        if error.errno == errno.EISDIR and _about(error, root):
            raise StoreError(str(error.filename), "is a folder, and a file must lie there", "Remove it.") from error
        raise


def discard(path: Path) -> None:
    """Remove what has a name, with all that is below it; of a link only the link, and nothing where nothing is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _full(error: OSError, root: Path) -> StoreError:
    """Return the error about the disk that is full: not every program writes into this folder."""
    place = root
    if error.filename is not None and not _about(error, root):
        place = Path(str(error.filename)).parent
    elif error.filename is None and is_full(_temporary()) and not is_full(_existing(root)):
        place = _temporary()
    reason = "the disk has no space left; nothing half-written was kept"
    if place == root:
        fix = "Free some, for example with `gpuserve images gc`, or set XDG_CACHE_HOME to a larger disk."
    elif place == _temporary():
        fix = "Free some, or set TMPDIR to a folder on a larger disk."
    else:
        fix = "Free some."
    return StoreError(str(place), reason, fix)


def _about(error: OSError, root: Path) -> bool:
    path = Path(str(error.filename)) if error.filename is not None else None
    return path is not None and (path.is_relative_to(root) or root.is_relative_to(path))


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def bytes_in(folder: Path) -> int:
    """Return the size of the files in a folder, which a living build may write to, and remove from, all the while."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total
