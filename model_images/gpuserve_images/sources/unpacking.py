"""Archives: unpacked without trusting what they say about paths, links or sizes."""

import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, cast

from gpuserve_images.errors import SourceError
from gpuserve_images.records import sha256_json
from gpuserve_images.sources.archives import DISTRUST, MAX_EXPANSION, Budget, entries, inside, readable
from gpuserve_images.sources.cache import SourceCache
from gpuserve_images.sources.digests import tree_files
from gpuserve_images.sources.pickles import refuse_contents, refuse_names
from gpuserve_images.sources.remote import CHUNK_BYTES, LAYERS

MAX_ENTRIES = 100_000
"""Entries of an archive; the largest published model folders have some thousands."""

FREE_BYTES = 64 * 2**20
"""Any archive may become this many, however small it is."""

# https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
_WHITEOUT = ".wh."
_OPAQUE = ".wh..opq"


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
        try:
            found = _unpack(archive, folder, f"{where}: {archive.name}", include)
            _require_some(folder, f"{where}: {archive.name}", include, found)
        except BaseException:
            _empty(folder)
            raise

    place = store.obtain(sha256_json(["unpacked", digest, sorted(include)]), make)
    if not pickles:
        files = tree_files(place)
        refuse_names(where, files)
        refuse_contents(where, files.items())
    return place


def included(name: str, include: Sequence[str]) -> bool:
    """Whether a file is wanted: it matches one of these globs, or there are none."""
    return not include or any(fnmatchcase(name, glob) for glob in include)


def nothing_included(where: str, include: Sequence[str], there: Sequence[str]) -> SourceError:
    """Return what to raise where no file is wanted of those that are there."""
    if not (there and include):
        return SourceError(where, "holds no files", "Name one with a model.")
    reason = f"has no file that `include` matches; it has {', '.join(there[:8])}"
    return SourceError(where, reason, "Correct `include:`.", value=", ".join(include))


def overlaid(place: Path, key: str, store: SourceCache, where: str, *, include: Sequence[str]) -> Path:
    """Return the files of an image: its plain ones and its tar layers, each over those before it.

    Args:
        place: The download, with its layers in the folder `.layers`.
        key: What names its content, and what of it is wanted.
        store: The cache.
        where: The address, for messages.
        include: Globs of the files that are wanted; none for all.

    Raises:
        SourceError: As `unpacked`.
    """

    def make(folder: Path) -> None:
        _empty(folder)
        found: list[str] = []
        written = {name for name in tree_files(place) if not name.startswith(f"{LAYERS}/")}
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).hardlink_to(place / name)
        for layer in sorted((place / LAYERS).iterdir()):
            found += _unpack(layer, folder, f"{where}: layer {layer.name}", include, over=True)
        _require_some(folder, where, include, found)

    return store.obtain(sha256_json(["overlaid", key]), make)


def _require_some(folder: Path, where: str, include: Sequence[str], found: Sequence[str]) -> None:
    if not any(path.is_file() for path in folder.rglob("*")):
        raise nothing_included(where, include, found)


def _unpack(archive: Path, folder: Path, where: str, include: Sequence[str], *, over: bool = False) -> list[str]:
    """Write the wanted files of an archive into a folder, and return the names of all that it holds."""
    found: list[str] = []
    budget = Budget(where, max(FREE_BYTES, MAX_EXPANSION * archive.stat().st_size), MAX_ENTRIES)
    links: dict[str, str] = {}
    written: set[str] = set()
    with readable(where):
        for entry in entries(archive, budget):
            name = inside(entry.name, where)
            if name in written or name in links:
                raise SourceError(where, "has two files of one name", DISTRUST, value=name)
            if over and entry.link is None and PurePosixPath(name).name.startswith(_WHITEOUT):
                _remove_below(folder, name)
                continue
            found.append(name)
            if entry.link is not None:
                links[name] = entry.link
            elif included(name, include):
                if over:
                    (folder / name).unlink(missing_ok=True)
                _write(cast("IO[bytes]", entry.content), folder / name, budget)
                written.add(name)
        for name, target in links.items():
            if included(name, include):
                if over:
                    (folder / name).unlink(missing_ok=True)
                _link(name, target, folder, written, where)
    return found


def _write(content: IO[bytes], path: Path, budget: Budget) -> None:
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
