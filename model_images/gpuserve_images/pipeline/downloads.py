"""Downloaded model files, as the collector of kept things sees them."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from gpuserve_images.pipeline.folders import bytes_in
from gpuserve_images.pipeline.store import Entry
from gpuserve_images.sources.cache import COMPLETE, cache_folder

WHOLE, PARTIAL, USING, LOCKS = "sha256", "partial", "using", "locks"


def downloads(root: Path) -> Iterator[Entry]:
    """Yield finished downloads, and what cut ones left to be continued.

    Args:
        root: Folder of downloads (`sources.cache.cache_folder`).
    """
    for folder in sorted((root / WHOLE).glob("[!.]*")):
        mark = folder / COMPLETE
        used = mark if mark.is_file() else folder
        yield Entry("source", folder.name, folder, bytes_in(folder), _changed(used), root / USING / folder.name)
    for folder in sorted((root / PARTIAL).glob("[!.]*")):
        # One that was finished a moment ago has gone from here.
        with suppress(FileNotFoundError):
            changed = _changed(folder)
            # Held by the process that downloads.
            yield Entry("cut download", folder.name, folder, bytes_in(folder), changed, root / LOCKS / folder.name)


def use_lock(folder: Path) -> Path | None:
    """Return the lock file to hold while files of a download are used; None for files that are no download."""
    root = cache_folder()
    if not folder.is_relative_to(root / WHOLE):
        return None
    return root / USING / folder.relative_to(root / WHOLE).parts[0]


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
