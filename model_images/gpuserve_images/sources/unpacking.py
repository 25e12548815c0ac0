"""Archives: unpacked without trusting what they say about paths, links or sizes."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
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
    links: dict[str, str] = {}
    written: set[str] = set()
    with readable(where):
        budget = _budget(archive, where)
        for entry in entries(archive, budget):
            name = inside(entry.name, where)
            if name in written or name in links:
                raise SourceError(where, "has two files of one name", DISTRUST, value=name)
            if over and entry.link is None and PurePosixPath(name).name.startswith(_WHITEOUT):
                _hide(folder, _hidden(name, where), written)
                continue
            found.append(name)
            if entry.link is not None:
                links[name] = entry.link
            elif included(name, include):
                if over:
                    _make_way(folder, name, written)
                _write(cast("IO[bytes]", entry.content), folder / name, budget)
                written.add(name)
        wanted, known = [name for name in links if included(name, include)], frozenset(found)
        for name in wanted if over else ():
            _make_way(folder, name, written)
        targets = {name: _end(name, links, known, where) for name in wanted}
        _bring_left_out(archive, folder, where, {name: target for name, target in targets.items() if target not in written})
        for name, target in targets.items():
            if target in written:
                _link(folder / name, folder / target)
    return found


def _budget(archive: Path, where: str) -> Budget:
    return Budget(where, max(FREE_BYTES, MAX_EXPANSION * archive.stat().st_size), MAX_ENTRIES)


def _write(content: IO[bytes], path: Path, budget: Budget) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": never through a link or over a file that is there.
    with path.open("xb") as out:
        while chunk := content.read(CHUNK_BYTES):
            budget.bytes(len(chunk))
            out.write(chunk)


def _end(name: str, links: Mapping[str, str], files: Collection[str], where: str) -> str:
    """Return the file of the archive that a link stands for, through other links too: what is unpacked holds no links."""
    target, seen = links[name], {name}
    while target in links and target not in seen:
        seen.add(target)
        target = links[target]
    if target in links or target not in files:
        reason = f"is a link to {links[name]}, which is no file of the archive"
        raise SourceError(where, reason, "Pack the file itself (`tar --dereference`).", value=name)
    return target


def _link(name: Path, target: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    name.hardlink_to(target)


def _bring_left_out(archive: Path, folder: Path, where: str, targets: Mapping[str, str]) -> None:
    """Write the files that wanted links stand for and that are not wanted themselves, under the names of these links."""
    names: dict[str, list[str]] = {}
    for name, target in targets.items():
        names.setdefault(target, []).append(name)
    budget = _budget(archive, where)
    for entry in entries(archive, budget) if names else ():
        first, *others = names.get(inside(entry.name, where)) or [""]
        if first and entry.content is not None:
            _write(entry.content, folder / first, budget)
            for other in others:
                _link(folder / other, folder / first)


def _hidden(mark: str, where: str) -> str:
    """Return the file or folder that a layer's whiteout says is not there in the layers below."""
    path = PurePosixPath(mark)
    named = path.name.removeprefix(_WHITEOUT)
    if named in {"", ".", ".."}:
        raise SourceError(where, "has a whiteout of no file, which would remove what is around it", DISTRUST, value=mark)
    return str(path.parent if named == _OPAQUE else path.parent / named)


def _make_way(folder: Path, name: str, own: Collection[str]) -> None:
    """Remove what layers below have in the place of a file, or of a folder above it: what comes later counts, whatever it is."""
    for parent in PurePosixPath(name).parents:
        if (folder / parent).is_file():
            _hide(folder, str(parent), own)
    _hide(folder, name, own)


def _hide(folder: Path, name: str, own: Collection[str]) -> None:
    """Remove a file, or all below a folder, but for the layer's own files: it hides those of the layers below only, in any order."""
    place = folder / name
    for path in sorted([place, *place.rglob("*")], reverse=True):
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in own:
            with suppress(NotADirectoryError):
                path.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Remove what a killed attempt left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
