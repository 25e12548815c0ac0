"""Disks that fill up: one folder for what a library writes on the way, and the truth when it says something else."""

import errno
import os
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


@contextmanager
def scratch(beside: Path) -> Generator[Path]:
    """Give a folder for temporary files that is removed at the end.

    It lies on the disk where the result will be, so that there is one disk to make room on; models do not fit the small, sometimes
    memory-backed disk of `/tmp`. Libraries in C++ do not say that a disk is full (ONNX Runtime says that it cannot run the model), so an
    error that leaves a full disk behind is reported as that.

    Args:
        beside: Folder of the result.

    Raises:
        OSError: ENOSPC, in place of another error that left the disk full.
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
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
