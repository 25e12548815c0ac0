"""Downloaded model files, as the collector of kept things sees them."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from gpuserve_images.pipeline.folders import bytes_in
from gpuserve_images.pipeline.store import Entry
from gpuserve_images.sources.cache import COMPLETE, cache_folder

WHOLE, PARTIAL, USING, LOCKS = "sha256", "partial", "using", "locks"
GOING = ".going"
"""End of the name that a folder gets before its files are removed."""


def downloads(root: Path) -> Iterator[Entry]:
    """Yield finished downloads, and what cut ones left to be continued.

    Args:
        root: Folder of downloads (`sources.cache.cache_folder`).
    """
    for folder in sorted((root / WHOLE).glob("[!.]*")):
        # Another collection may remove it meanwhile.
        with suppress(OSError):
            yield _source(root, folder, _changed(stamp_of(folder)))
    for folder in sorted((root / PARTIAL).glob("[!.]*")):
        # One that was finished a moment ago has gone from here.
        with suppress(OSError):
            yield _cut(root, folder, _changed(folder))


def stamp_of(folder: Path) -> Path:
    """Return what has the time of a folder's last use: a finished download's mark, else the folder."""
    mark = folder / COMPLETE
    return mark if mark.is_file() else folder


def cut_removals(root: Path) -> Iterator[Entry]:
    """Yield what collections that were killed did not come to remove.

    Args:
        root: Folder of downloads (`sources.cache.cache_folder`).
    """
    for place, entry in ((WHOLE, _source), (PARTIAL, _cut)):
        for folder in sorted((root / place).glob(f".*{GOING}")):
            with suppress(OSError):
                yield entry(root, folder, _changed(folder))


def use_lock(folder: Path) -> Path | None:
    """Return the lock file to hold while files of a download are used; None for files that are no download."""
    root = cache_folder()
    if not folder.is_relative_to(root / WHOLE):
        return None
    return root / USING / folder.relative_to(root / WHOLE).parts[0]


def _source(root: Path, folder: Path, used: datetime) -> Entry:
    key = _key(folder)
    return Entry("source", key, folder, bytes_in(folder), used, root / USING / key)


def _cut(root: Path, folder: Path, used: datetime) -> Entry:
    key = _key(folder)
    # Held by the process that downloads.
    return Entry("cut download", key, folder, bytes_in(folder), used, root / LOCKS / key)


def _key(folder: Path) -> str:
    return folder.name.removeprefix(".").removesuffix(GOING)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
