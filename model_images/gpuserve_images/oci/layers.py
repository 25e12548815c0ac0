"""Layers: files in, a reproducible tar stream out, never a whole file in memory.

Equal files give equal bytes on any machine and day: entries are sorted, times are 0, the owner is root.
"""

import hashlib
import os
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gpuserve_images.errors import ImageError

CHUNK_BYTES = 1 << 20

UPLOADS = 4
"""Blobs sent at once by default: enough to fill a line that one connection does not, few enough not to be turned away."""

# Engines that unpack each layer into a folder of its own would make these 0755 over any base (Docker, Podman and CRI-O on overlayfs).
_SHARED = {"tmp": 0o1777, "var/tmp": 0o1777}
# A tar archive ends with two blocks of zeros (POSIX.1-2017, pax).
_END = bytes(2 * tarfile.BLOCKSIZE)
_RACY_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True)
class File:
    """Content of one file.

    Attributes:
        source: File on this machine, or the content itself.
        mode: Permission bits in the image; read-only for others by default, because a server only reads its model.
        media_type: Type of the content; only artifacts record it.
    """

    source: Path | bytes
    mode: int = 0o644
    media_type: str = "application/octet-stream"

    def size(self) -> int:
        """Return the size in bytes.

        Raises:
            ImageError: The source is missing or not a regular file.
        """
        if isinstance(self.source, bytes):
            return len(self.source)
        if not self.source.is_file():
            reason = "it is not a regular file" if self.source.exists() else "there is no such file"
            raise ImageError("layer", reason, "Give the path of an existing file", value=str(self.source))
        return self.source.stat().st_size

    def fingerprint(self) -> list[object] | None:
        """Return what changes whenever the content does, without reading a file; None for a file so new that a change could hide.

        The time of the last change of the inode cannot be set by hand. Clocks of file systems are coarse, hence the two seconds, as
        in Git's index (https://git-scm.com/docs/racy-git).
        """
        if isinstance(self.source, bytes):
            return [hashlib.sha256(self.source).hexdigest()]
        self.size()
        status = self.source.stat()
        # A name need not be text.
        name = os.fsencode(self.source.absolute()).decode("utf-8", "backslashreplace")
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _RACY_NANOSECONDS:
            return None
        times = [status.st_mtime_ns, status.st_ctime_ns]
        return [name, status.st_dev, status.st_ino, status.st_size, *times]

    def chunks(self, size: int | None = None) -> Iterator[bytes]:
        """Yield the content in pieces of at most 1 MiB.

        Args:
            size: Bytes that the file had when its size was written down; by default what it has now.

        Raises:
            ImageError: The file has another size now, or changes it while it is read.
        """
        if isinstance(self.source, bytes):
            yield self.source
            return
        left = self.size() if size is None else size
        with self.source.open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                left -= len(chunk)
                yield chunk
        if left:
            raise ImageError(
                "layer",
                "the file changed while it was read",
                "Let the program that writes it finish, then run again",
                value=str(self.source),
            )


@dataclass(frozen=True)
class Layer:
    """Files that become one layer, owned by root, with the time 0.

    Attributes:
        files: Absolute path in the image -> file.
        directories: Absolute path -> permission bits, for directories that are empty or not 0755. They replace what a base has
            there. Other parents of files have no entry, because it would replace the base's directory too, or a link of that name;
            engines make those that are missing, 0755. `/tmp` and `/var/tmp` are 1777 where files go there.
        comment: What the layer holds, for the image's history.
    """

    files: Mapping[str, File]
    directories: Mapping[str, int] = field(default_factory=dict[str, int])
    comment: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the layer as tar, in pieces of at most 1 MiB."""
        directories, files = self._entries()
        for path in sorted([*directories, *files]):
            if path in directories:
                yield _header(path, tarfile.DIRTYPE, directories[path], 0)
                continue
            size = files[path].size()
            yield _header(path, tarfile.REGTYPE, files[path].mode, size)
            yield from files[path].chunks(size)
            if size % tarfile.BLOCKSIZE:
                yield bytes(tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)
        yield _END

    def source_bytes(self) -> int:
        """Return the bytes of the files, for progress: the tar is a little larger."""
        return sum(file.size() for file in self.files.values())

    def fingerprint(self) -> list[object] | None:
        """Return what tells whether the tar is the same as the last time without reading it; None when that cannot be told."""
        # What cannot be in an image is said first.
        self._entries()
        files = {path: [file.mode, file.fingerprint()] for path, file in self.files.items()}
        if any(what[1] is None for what in files.values()):
            return None
        return [sorted(files.items()), sorted(self.directories.items())]

    def _entries(self) -> tuple[dict[str, int], dict[str, File]]:
        files = {_relative(path): file for path, file in self.files.items()}
        directories = {_relative(path): mode for path, mode in self.directories.items()}
        for path in [*files, *directories]:
            for parent in PurePosixPath(path).parents:
                if mode := _SHARED.get(str(parent)):
                    directories.setdefault(str(parent), mode)
        parents = {str(parent) for path in [*files, *directories] for parent in PurePosixPath(path).parents}
        if both := sorted(files.keys() & (directories.keys() | parents)):
            raise ImageError(
                "layer", "the path is a file and also a directory of another file", "Rename one of them", value=f"/{both[0]}"
            )
        return directories, files


@dataclass(frozen=True)
class TarLayer:
    """A layer that exists already as an uncompressed tar file, such as a root file system.

    Attributes:
        path: The tar file. It is sent as it is, so reproducible only when the tool that wrote it was.
        comment: What the layer holds, for the image's history.
    """

    path: Path
    comment: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the tar in pieces of at most 1 MiB."""
        yield from File(self.path).chunks()

    def source_bytes(self) -> int:
        """Return the size of the tar in bytes."""
        return File(self.path).size()

    def fingerprint(self) -> list[object] | None:
        """Return what tells whether the tar is the same as the last time without reading it; None when that cannot be told."""
        found = File(self.path).fingerprint()
        return None if found is None else [found]


def _relative(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or str(pure) != path or path.startswith("//") or path == "/":
        raise ImageError(
            "layer",
            "a path in an image is absolute and has no '..', no double and no trailing slash",
            "Write for example /models/filetype/1/model.onnx",
            value=repr(path),
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ImageError("layer", "a path in an image is text in UTF-8", "Rename the file", value=ascii(path)) from None
    return path[1:]


def _header(path: str, kind: bytes, mode: int, size: int) -> bytes:
    info = tarfile.TarInfo(f"{path}/" if kind == tarfile.DIRTYPE else path)
    info.type = kind
    info.mode = mode
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
