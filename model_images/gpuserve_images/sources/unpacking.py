"""Archives: unpacked without trusting what they say about paths, links or sizes."""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from zstandard import ZstdDecompressor, ZstdError

from gpuserve_images.errors import SourceError
from gpuserve_images.records import sha256_json
from gpuserve_images.sources.cache import SourceCache
from gpuserve_images.sources.digests import tree_files
from gpuserve_images.sources.pickles import refuse_contents, refuse_names
from gpuserve_images.sources.remote import CHUNK_BYTES, LAYERS

MAX_ENTRIES = 100_000
"""Entries of an archive; the largest published model folders have some thousands."""

MAX_EXPANSION = 100
"""Bytes that one byte of an archive may become. Weights hardly shrink and vocabularies shrink tenfold; zeros, which bombs are made of,
shrink a thousandfold (zlib's limit is 1032)."""

FREE_BYTES = 64 * 2**20
"""Any archive may become this many, however small it is."""

# https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
_WHITEOUT = ".wh."
_OPAQUE = ".wh..opq"

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_READ = 16 * 2**20
_DISTRUST = "Do not trust this archive; ask who made it for another one."
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    ZstdError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class _Entry:
    """A file in an archive, and where its bytes or the file that it stands for are."""

    name: str
    link: str | None = None
    content: IO[bytes] | None = None


@dataclass
class _Budget:
    """What an archive may still become."""

    where: str
    allowed: int
    entries: int = MAX_ENTRIES

    def bytes(self, count: int) -> None:
        self.allowed -= count
        if self.allowed < 0:
            reason = f"becomes more than {MAX_EXPANSION} times its size, which no model does"
            raise SourceError(self.where, reason, _DISTRUST)

    def entry(self) -> None:
        self.entries -= 1
        if self.entries < 0:
            raise SourceError(self.where, f"has more than {MAX_ENTRIES} entries", _DISTRUST)


def unpacked(  # noqa: PLR0913 - keywords of one call
    archive: Path, digest: str, store: SourceCache, where: str, *, pickles: bool = True, include: Sequence[str] = ()
) -> Path:
    """Return the folder of an archive's files, unpacked unless the cache has it.

    Args:
        archive: The archive.
        digest: Its SHA-256.
        store: The cache.
        where: The address or field, for messages.
        pickles: Whether files that run code when they are loaded may be in it.
        include: Globs of the files that are wanted; none for all.

    Raises:
        SourceError: When it is damaged, a bomb, holds links or paths that leave it, devices, or pickles without leave.
    """

    def make(folder: Path) -> None:
        _empty(folder)
        _unpack(archive, folder, f"{where}: {archive.name}", include)

    place = store.obtain(sha256_json(["unpacked", digest, sorted(include)]), make)
    if not pickles:
        files = tree_files(place)
        refuse_names(where, files)
        refuse_contents(where, files.items())
    return place


def overlaid(place: Path, key: str, store: SourceCache, where: str) -> Path:
    """Return the files of an image: its plain ones and its tar layers, each over those before it.

    Args:
        place: The download, with its layers in the folder `.layers`.
        key: What names its content.
        store: The cache.
        where: The address, for messages.

    Raises:
        SourceError: As `unpacked`.
    """

    def make(folder: Path) -> None:
        _empty(folder)
        written = {name for name in tree_files(place) if not name.startswith(f"{LAYERS}/")}
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).hardlink_to(place / name)
        for layer in sorted((place / LAYERS).iterdir()):
            _unpack(layer, folder, f"{where}: layer {layer.name}", (), over=True)
        if not any(path.is_file() for path in folder.rglob("*")):
            raise SourceError(where, "holds no files", "Name an artifact with a model.")

    return store.obtain(sha256_json(["overlaid", key]), make)


def _unpack(archive: Path, folder: Path, where: str, include: Sequence[str], *, over: bool = False) -> None:
    budget = _Budget(where, max(FREE_BYTES, MAX_EXPANSION * archive.stat().st_size))
    links: dict[str, str] = {}
    written: set[str] = set()
    with _readable(where):
        for entry in _entries(archive, budget):
            name = _inside(entry.name, where)
            if name in written or name in links:
                raise SourceError(where, "has two files of one name", _DISTRUST, value=name)
            if entry.link is not None:
                links[name] = entry.link
            elif over and PurePosixPath(name).name.startswith(_WHITEOUT):
                _remove_below(folder, name)
            elif not include or any(fnmatchcase(name, glob) for glob in include):
                if over:
                    (folder / name).unlink(missing_ok=True)
                _write(cast("IO[bytes]", entry.content), folder / name, budget)
                written.add(name)
    for name, target in links.items():
        if not include or any(fnmatchcase(name, glob) for glob in include):
            _link(name, target, folder, written, where)
    if not written and not over:
        raise SourceError(where, "holds no files" + (" that `include` matches" if include else ""), "Name another archive.")


def _entries(archive: Path, budget: _Budget) -> Iterator[_Entry]:
    with archive.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(b"PK"):
        yield from _zip_entries(archive, budget)
    else:
        yield from _tar_entries(archive, budget, head)


def _zip_entries(archive: Path, budget: _Budget) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            budget.entry()
            mode = member.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if member.flag_bits & 1:
                raise SourceError(budget.where, "is encrypted", "Pack it without a password.", value=member.filename)
            if member.is_dir():
                _inside(member.filename.rstrip("/"), budget.where)
                continue
            if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
                raise SourceError(budget.where, "is a device or a pipe", _DISTRUST, value=member.filename)
            with opened.open(member) as content:
                if kind == stat.S_IFLNK:
                    target = content.read(4096).decode()
                    yield _Entry(member.filename, link=_target(member.filename, target, budget.where))
                else:
                    yield _Entry(member.filename, content=content)


def _tar_entries(archive: Path, budget: _Budget, head: bytes) -> Iterator[_Entry]:
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
                    _inside(member.name, budget.where)
            elif member.issym():
                yield _Entry(member.name, link=_target(member.name, member.linkname, budget.where))
            elif member.islnk():
                yield _Entry(member.name, link=_inside(member.linkname, budget.where))
            elif member.isreg() and not member.issparse():
                yield _Entry(member.name, content=opened.extractfile(member))
            else:
                raise SourceError(budget.where, "is a device, a pipe or a sparse file", _DISTRUST, value=member.name)


class _Bounded:
    """A tar's bytes, none of them after the place that the archive may reach: headers can be bombs, too."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream = stream
        self._where = budget.where
        self._end = budget.allowed + _MAX_READ

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise SourceError(self._where, "has a header of absurd size", _DISTRUST)
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if position > self._end:
            reason = f"becomes more than {MAX_EXPANSION} times its size, which no model does"
            raise SourceError(self._where, reason, _DISTRUST)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _write(content: IO[bytes], path: Path, budget: _Budget) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": never through a link or over a file that is there.
    with path.open("xb") as out:
        while chunk := content.read(CHUNK_BYTES):
            budget.bytes(len(chunk))
            out.write(chunk)


def _link(name: str, target: str, folder: Path, written: set[str], where: str) -> None:
    """Make a link inside the archive the file that it stands for: what is unpacked holds no links."""
    if target not in written:
        reason = f"is a link to {target}, which is no file of the archive"
        raise SourceError(where, reason, "Pack the file itself (`tar --dereference`).", value=name)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).hardlink_to(folder / target)


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
    return _inside("/".join(parts), where)


def _inside(name: str, where: str) -> str:
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
    return SourceError(where, reason, _DISTRUST, value=repr(name))


def _remove_below(folder: Path, mark: str) -> None:
    """Do what a layer's whiteout says: the file or folder of that name in the layers below is not there."""
    path = PurePosixPath(mark)
    named = path.name.removeprefix(_WHITEOUT)
    removed = folder / path.parent if named == _OPAQUE else folder / path.parent / named
    if removed.is_dir():
        shutil.rmtree(removed)
    else:
        removed.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Remove what a killed attempt left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def _readable(where: str) -> Generator[None]:
    try:
        yield
    except _DAMAGED as error:
        reason = f"is a damaged archive: {' '.join(str(error).split()) or type(error).__name__}"
        raise SourceError(where, reason, "Pack or copy it again.") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise SourceError(where, "has a file and a folder of one name", _DISTRUST) from error
