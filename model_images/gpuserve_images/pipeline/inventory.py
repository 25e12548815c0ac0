"""What lies in the folder of finished stages, and what may go."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpuserve_images.pipeline.downloads import GOING, cut_removals, downloads, stamp_of
from gpuserve_images.pipeline.folders import bytes_in, discard, usable
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.pipeline.report import BuildReport
from gpuserve_images.pipeline.store import Entry, StageStore, lock_of

BUILDS = "builds"
DOWNLOADED = frozenset({"source", "cut download"})
"""What no stage's key names: it goes by age and size only."""


@dataclass(frozen=True)
class Inventory:
    """What is kept on this machine.

    Attributes:
        stages: Finished stages.
        sources: Downloaded model files.
        builds: Reports of images that were built and pushed here, by the time they were, the newest first.
    """

    stages: tuple[Entry, ...]
    sources: tuple[Entry, ...]
    builds: tuple[tuple[datetime, BuildReport], ...]


@dataclass(frozen=True)
class Wanted:
    """What may be removed; each field alone names things to remove.

    Attributes:
        unused_for: What no build has used for this long.
        keep_bytes: What was used longest ago, until no more than this is left.
        needed: Keys of the stages that are needed: all others go. None names nothing.
    """

    unused_for: timedelta | None = None
    keep_bytes: int | None = None
    needed: Collection[str] | None = None


@dataclass(frozen=True)
class Removal:
    """One thing that was removed, or would be.

    Attributes:
        entry: What it is.
        reason: Why it goes.
        held: Whether it stays, because a build is at work with it.
    """

    entry: Entry
    reason: str
    held: bool = False


def inventory(root: Path, sources: Path) -> Inventory:
    """Return what is kept.

    Args:
        root: Folder of finished stages (`store.cache_folder`).
        sources: Folder of downloads (`sources.cache.cache_folder`).

    Raises:
        StoreError: When a folder cannot be read.
    """
    with usable(root), usable(sources):
        return Inventory(tuple(StageStore(root).entries()), tuple(downloads(sources)), tuple(_builds(root)))


def keep_report(root: Path, report: BuildReport) -> None:
    """Write down that an image was built and pushed here.

    Raises:
        OSError: When it cannot be written; nothing of it stays.
    """
    path = root / BUILDS / f"{report.summary.key}.json"
    temporary = path.with_suffix(f".{os.getpid()}.new")
    try:
        temporary.write_text(report.model_dump_json(indent=2), encoding="utf-8")
        temporary.rename(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def collect(root: Path, sources: Path, wanted: Wanted, *, dry_run: bool = False) -> list[Removal]:
    """Remove what is wanted, and what killed builds left; never what a running build holds.

    Args:
        root: Folder of finished stages (`store.cache_folder`).
        sources: Folder of downloads (`sources.cache.cache_folder`).
        wanted: What may go.
        dry_run: Only say what would go.

    Raises:
        StoreError: When something cannot be removed.
    """
    with usable(root):
        return _collect(root, sources, wanted, dry_run=dry_run)


def _collect(root: Path, sources: Path, wanted: Wanted, *, dry_run: bool) -> list[Removal]:
    found = inventory(root, sources)
    now = datetime.now(UTC)
    entries = [_by_now(entry, now, dry_run=dry_run) for entry in (*found.stages, *found.sources)]
    removals = list(_choose(entries, wanted, now))
    done = [one for removal in removals if (one := _done(removal, dry_run=dry_run))]
    left = [*_leftovers(root), *cut_removals(sources)]
    tried = [_done(Removal(entry, _who_left(entry)), dry_run=dry_run) for entry in left]
    done += [removal for removal in tried if removal and not removal.held]
    if not dry_run:
        if wanted.unused_for is not None:
            _forget_builds(root, now, wanted.unused_for)
        _drop_locks(root)
    return done


def _by_now(entry: Entry, now: datetime, *, dry_run: bool) -> Entry:
    """Return an entry that was used by a clock that was ahead as one that is used now, and write that down: it ages from here."""
    if entry.used <= now:
        return entry
    if not dry_run:
        with suppress(OSError):
            os.utime(stamp_of(entry.folder), (now.timestamp(), now.timestamp()))
    return replace(entry, used=now)


def _choose(entries: Sequence[Entry], wanted: Wanted, now: datetime) -> Iterator[Removal]:
    left: list[Entry] = []
    oldest = now - wanted.unused_for if wanted.unused_for is not None else None
    for entry in sorted(entries, key=lambda entry: entry.used):
        if oldest is not None and entry.used <= oldest:
            yield Removal(entry, "not used for a long time")
        elif wanted.needed is not None and entry.stage not in DOWNLOADED and entry.key not in wanted.needed:
            yield Removal(entry, "no stack needs it")
        else:
            left.append(entry)
    excess = sum(entry.bytes for entry in left) - wanted.keep_bytes if wanted.keep_bytes is not None else 0
    for entry in left:
        if excess <= 0:
            return
        excess -= entry.bytes
        yield Removal(entry, "used longest ago")


def _done(removal: Removal, *, dry_run: bool) -> Removal | None:
    """Remove an entry unless a build holds it, and return what became of it; None where another collection was first."""
    entry = removal.entry
    lock = Lock(entry.lock)
    if not lock.try_alone():
        return replace(removal, held=True)
    try:
        there = entry.folder.exists()
        if there and dry_run:
            return removal
        if there:
            _remove(entry)
        lock.remove()
        return removal if there else None
    finally:
        lock.close()


def _remove(entry: Entry) -> None:
    going = entry.folder
    if not going.name.startswith("."):
        # The final name goes first and at once, so that a killed collection leaves nothing half there.
        going = going.with_name(f".{entry.key}{GOING}")
        discard(going)
        entry.folder.rename(going)
    discard(going)


def _who_left(entry: Entry) -> str:
    return "a killed collection left it" if entry.folder.name.endswith(GOING) else "a killed build left it"


def _drop_locks(root: Path) -> None:
    """Remove the lock files of what is not there and nobody holds."""
    for path in [*root.glob("stages/*/*.lock"), *(root / BUILDS).glob("*.lock")]:
        lock = Lock(path)
        if path.is_file() and not path.with_suffix("").exists() and lock.try_alone():
            lock.remove()


def _leftovers(root: Path) -> Iterator[Entry]:
    """Yield the unfinished folders of builds that are no more."""
    for folder in sorted(root.glob("stages/*/.*")):
        if folder.is_dir():
            key = folder.name.split(".")[1]
            yield Entry(folder.parent.name, key, folder, bytes_in(folder), datetime.now(UTC), lock_of(folder.with_name(key)))


def _builds(root: Path) -> Iterator[tuple[datetime, BuildReport]]:
    """Yield the reports that can be read: a later gpuserve wrote others, a full disk cut some short, and some were just forgotten."""
    found: list[tuple[datetime, BuildReport]] = []
    for file in (root / BUILDS).glob("*.json"):
        with suppress(OSError, ValueError):
            found.append((_written(file), BuildReport.model_validate_json(file.read_bytes())))
    yield from sorted(found, key=lambda one: one[0], reverse=True)


def _forget_builds(root: Path, now: datetime, unused_for: timedelta) -> None:
    """Remove old reports, those too that cannot be read; one of a clock that was ahead is of now, from now on."""
    for file in (root / BUILDS).glob("*.json"):
        with suppress(FileNotFoundError):
            written = _written(file)
            if min(written, now) <= now - unused_for and not file.is_dir():
                file.unlink()
            elif written > now:
                os.utime(file, (now.timestamp(), now.timestamp()), follow_symlinks=False)


def _written(file: Path) -> datetime:
    return datetime.fromtimestamp(file.lstat().st_mtime, UTC)
