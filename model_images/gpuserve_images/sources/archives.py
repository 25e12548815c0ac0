"""What is in an archive, read without trusting what it says about paths, links or sizes."""

import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from zstandard import ZstdDecompressor, ZstdError

from gpuserve_images.errors import SourceError

MAX_EXPANSION = 100
"""Bytes that one byte of an archive may become. Weights hardly shrink and vocabularies shrink tenfold; zeros, which bombs are made of,
shrink a thousandfold (zlib's limit is 1032)."""

DISTRUST = "Do not trust this archive; ask who made it for another one."

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_READ = 16 * 2**20
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    ZstdError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class Entry:
    """A file in an archive, and where its bytes or the file that it stands for are."""

    name: str
    link: str | None = None
    content: IO[bytes] | None = None


@dataclass
class Budget:
    """What an archive may still become.

    Attributes:
        where: The archive, for messages.
        allowed: Bytes.
        most: Entries.
    """

    where: str
    allowed: int
    most: int
    _seen: int = 0

    def bytes(self, count: int) -> None:
        """Spend bytes.

        Raises:
            SourceError: When there are none left.
        """
        self.allowed -= count
        if self.allowed < 0:
            reason = f"becomes more than {MAX_EXPANSION} times its size, which no model does"
            raise SourceError(self.where, reason, DISTRUST)

    def entry(self) -> None:
        """Spend an entry.

        Raises:
            SourceError: When there is none left.
        """
        self._seen += 1
        if self._seen > self.most:
            raise SourceError(self.where, f"has more than {self.most} entries", DISTRUST)


def entries(archive: Path, budget: Budget) -> Iterator[Entry]:
    """Yield the files and links of a `.zip` or a tar, plain or compressed by gzip or zstd; an entry's content is read before the next.

    Raises:
        SourceError: At a device, a pipe, a link or path that leaves it, or a header that is a bomb.
    """
    with archive.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(b"PK"):
        yield from _zip_entries(archive, budget)
    else:
        yield from _tar_entries(archive, budget, head)


def _zip_entries(archive: Path, budget: Budget) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            budget.entry()
            mode = member.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if member.flag_bits & 1:
                raise SourceError(budget.where, "is encrypted", "Pack it without a password.", value=member.filename)
            if member.is_dir():
                if member.filename.strip("./"):
                    inside(member.filename.rstrip("/"), budget.where)
                continue
            if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
                raise SourceError(budget.where, "is a device or a pipe", DISTRUST, value=member.filename)
            with opened.open(member) as content:
                if kind == stat.S_IFLNK:
                    target = content.read(4096).decode()
                    yield Entry(member.filename, link=_target(member.filename, target, budget.where))
                else:
                    yield Entry(member.filename, content=content)


def _tar_entries(archive: Path, budget: Budget, head: bytes) -> Iterator[Entry]:
    with ExitStack() as stack:
        stream = stack.enter_context(archive.open("rb"))
        plain: Any = stream
        if head.startswith(_GZIP):
            plain = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif head.startswith(_ZSTD):
            plain = stack.enter_context(ZstdDecompressor().stream_reader(stream, read_across_frames=True))
        bounded = cast("IO[bytes]", _Bounded(plain, budget))
        opened = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:"))
        for member in opened:
            budget.entry()
            if member.isdir():
                if member.name.strip("./"):
                    inside(member.name, budget.where)
            elif member.issym():
                yield Entry(member.name, link=_target(member.name, member.linkname, budget.where))
            elif member.islnk():
                yield Entry(member.name, link=inside(member.linkname, budget.where))
            elif member.isreg() and not member.issparse():
                yield Entry(member.name, content=opened.extractfile(member))
            else:
                raise SourceError(budget.where, "is a device, a pipe or a sparse file", DISTRUST, value=member.name)


class _Bounded:
    """A tar's bytes, none of them after the place that the archive may reach: headers can be bombs, too."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream = stream
        self._where = budget.where
        self._end = budget.allowed + _MAX_READ

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise SourceError(self._where, "has a header of absurd size", DISTRUST)
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if position > self._end:
            reason = f"becomes more than {MAX_EXPANSION} times its size, which no model does"
            raise SourceError(self._where, reason, DISTRUST)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _target(name: str, target: str, where: str) -> str:
    """Return what a symbolic link points to, as a path in the archive."""
    if target.startswith("/"):
        raise _leaves(name, where, target)
    parts: list[str] = []
    for part in (*PurePosixPath(name).parent.parts, *PurePosixPath(target).parts):
        if part == "..":
            if not parts:
                raise _leaves(name, where, target)
            parts.pop()
        elif part != ".":
            parts.append(part)
    return inside("/".join(parts), where)


def inside(name: str, where: str) -> str:
    """Return a name as a plain relative path."""
    plain = name.removeprefix("./")
    if plain.startswith("/") or ".." in plain.split("/") or "\\" in plain or any(ord(letter) < ord(" ") for letter in plain):
        raise _leaves(name, where)
    parts = [part for part in plain.split("/") if part not in {"", "."}]
    if not parts:
        raise _leaves(name, where)
    return "/".join(parts)


def _leaves(name: str, where: str, target: str = "") -> SourceError:
    reason = f"is a link that leaves the archive ({target})" if target else "is a path that leaves the archive"
    return SourceError(where, reason, DISTRUST, value=repr(name))


@contextmanager
def readable(where: str) -> Generator[None]:
    """Turn what damaged archives raise into a sentence.

    Raises:
        SourceError: In its place.
    """
    try:
        yield
    except _DAMAGED as error:
        raise _damaged(error, where) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise SourceError(where, "has a file and a folder of one name", DISTRUST) from error
    except OSError as error:
        # What bz2 says of its own data, and the system of a place in front of a file's beginning; neither is about a file by its name.
        if error.filename is None and error.errno in {None, errno.EINVAL}:
            raise _damaged(error, where) from error
        raise


def _damaged(error: Exception, where: str) -> SourceError:
    reason = f"is a damaged archive: {' '.join(str(error).split()) or type(error).__name__}"
    return SourceError(where, reason, "Pack or copy it again.")
