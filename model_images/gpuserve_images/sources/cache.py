"""Downloads by the digest of what they hold: each made once, whole and verified, or not there at all.

`sha256/<key>/complete.json` and `files/` is what is finished, `partial/<key>/files/` what a cut download left for the next one to
continue, and `locks/<key>` is held by the process that downloads.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from gpuserve_images import folders
from gpuserve_images.disks import FULL, too_large
from gpuserve_images.errors import SourceError
from gpuserve_images.pipeline.folders import discard
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.records import know_sha256, sha256_file

COMPLETE = "complete.json"
FILES = "files"
_MARKS = TypeAdapter(dict[str, tuple[int, int, str]])


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/gpuserve/sources`, by default below `~/.cache`."""
    return folders.cache("sources")


@dataclass(frozen=True)
class SourceCache:
    """The cache below one folder; nothing is made before it is needed."""

    root: Path

    def obtain(self, key: str, make: Callable[[Path], None]) -> Path:
        """Return the folder of a key's files, filled by `make` unless it is there and unchanged.

        `make` is given the folder of a cut attempt, to continue it. Two processes at once make a key once: the second waits.

        Raises:
            SourceError: When the disk is full or may not be written.
        """
        final = self.root / "sha256" / key
        with readable(self.root), self._locked(key):
            if _whole(final):
                os.utime(final / COMPLETE)
                return final / FILES
            discard(final)
            partial = self.root / "partial" / key
            files = partial / FILES
            files.mkdir(parents=True, exist_ok=True)
            make(files)
            _seal(partial)
            final.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(final)
            _whole(final)  # so that the digests are known under the final names too
        return final / FILES

    def has(self, key: str) -> bool:
        """Tell whether a key's files are there."""
        return (self.root / "sha256" / key / COMPLETE).is_file()

    @contextmanager
    def _locked(self, key: str) -> Generator[None]:
        lock = Lock(self.root / "locks" / key)
        # Of a lock file that a collection removes meanwhile, too, only one process is the holder.
        lock.alone()
        try:
            yield
        finally:
            lock.close()


@contextmanager
def readable(folder: Path) -> Generator[None]:
    """Turn a full or closed disk into a sentence.

    Raises:
        SourceError: In place of the OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(folder) from error
        if error.errno == errno.EFBIG:
            raise SourceError(str(error.filename or folder), *too_large()) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
            reason = f"cannot be written: {error.strerror}"
            raise SourceError(str(folder), reason, "Set XDG_CACHE_HOME to a folder that you may write.") from error
        if isinstance(error, NotADirectoryError | FileExistsError):
            reason = f"cannot be used as a folder: {error.filename} is none"
            raise SourceError(str(folder), reason, "Set XDG_CACHE_HOME to a folder.") from error
        if isinstance(error, IsADirectoryError):
            raise SourceError(str(error.filename), "is a folder, and a file must lie there", "Remove it.") from error
        raise


def disk_full(folder: Path, needed: int | None = None) -> SourceError:
    """Return the error for a download that does not fit."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    want = f"{needed} bytes are still to come and " if needed is not None else ""
    reason = f"is on a disk that is full: {want}{free} bytes are free"
    return SourceError(str(folder), reason, "Free space, or set XDG_CACHE_HOME to another disk; what is there already is kept.")


def _seal(partial: Path) -> None:
    """Write down what was verified, so that a later change of a file is seen."""
    marks: dict[str, list[object]] = {}
    for path in sorted((partial / FILES).rglob("*")):
        if path.is_file():
            path.chmod(0o444)
            status = path.stat()
            marks[path.relative_to(partial / FILES).as_posix()] = [status.st_size, status.st_mtime_ns, sha256_file(path)]
    temporary = partial / f".{COMPLETE}"
    temporary.write_text(json.dumps(marks, indent=1, sort_keys=True), encoding="utf-8")
    temporary.rename(partial / COMPLETE)


def _whole(final: Path) -> bool:
    """Tell whether files are as they were verified: by size and time, and by content where the time differs."""
    try:
        marks = _MARKS.validate_json((final / COMPLETE).read_bytes())
        for name, (size, changed, digest) in marks.items():
            path = final / FILES / name
            status = path.stat()
            if status.st_size != size or (status.st_mtime_ns != changed and sha256_file(path) != digest):
                return False
            know_sha256(path, digest)
    except (OSError, ValueError):
        return False
    return True
