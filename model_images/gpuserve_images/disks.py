"""Disks that fill up, and files that may not grow: one folder for what a library writes on the way, and the truth when it says something else."""

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk, or of a share of one, that has no space left."""

FULL_BYTES = 1 << 20
"""Bytes below which a disk counts as full: a library that could not write its last block leaves less than that."""


def is_full(folder: Path) -> bool:
    """Return whether hardly anything fits on the disk of a folder."""
    return shutil.disk_usage(folder).free < FULL_BYTES


def too_large() -> tuple[str, str]:
    """Return the reason and the fix for a file that could not be written because of its size (EFBIG)."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return "would be larger than its file system lets a file be", "Use a folder on another file system."
    reason = f"would be larger than the {limit} bytes that a file may have in this shell (`ulimit -f`)"
    return reason, "Run `ulimit -f unlimited` first, or ask who set that limit."


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Put a file's name into the error for its size, which the system leaves out where bytes are written.

    Raises:
        OSError: EFBIG, with the name.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG and error.filename is None:
            raise OSError(errno.EFBIG, error.strerror, str(path)) from error
        raise


@contextmanager
def scratch(beside: Path) -> Generator[Path]:
    """Give a folder for temporary files that is removed at the end.

    It lies on the disk where the result will be, so that there is one disk to make room on; models do not fit the small, sometimes
    memory-backed disk of `/tmp`. Libraries in C++ do not say that a disk is full (ONNX Runtime says that it cannot run the model), so an
    error that leaves a full disk behind is reported as that.

    Args:
        beside: Folder of the result.

    Raises:
        OSError: ENOSPC, in place of another error that left the disk full; EFBIG, of one that left a file as large as it may be.
    """
    folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=beside))
    try:
        yield folder
    except OSError:
        raise
    except Exception as error:
        # Looked at before the folder is removed: what was half written is what fills the disk.
        if is_full(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        if cut := _cut(folder):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(beside / cut.name)) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cut(folder: Path) -> Path | None:
    """Return a file that is as large as a file may be here, or None."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    files = folder.rglob("*") if limit != resource.RLIM_INFINITY else ()
    return next((path for path in files if path.is_file() and path.stat().st_size >= limit), None)
