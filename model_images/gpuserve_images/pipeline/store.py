"""The local store of finished stages: each made once per key, whole or not there at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from gpuserve.kubernetes.spec import Spec
from gpuserve_images import folders
from gpuserve_images.pipeline.folders import StoreError, discard, usable
from gpuserve_images.pipeline.locks import Lock
from gpuserve_images.records import StageRecord, sha256_file

RECORD = "record.json"


class Kept(Spec):
    """What `record.json` says about a finished stage.

    Attributes:
        key: The stage's key.
        record: What it did.
        files: Size in bytes of each file it wrote, by path: a folder that lacks one of them is not whole.
        sha256: SHA-256 of each of them, by path; one of other bytes is not whole. Default: not known (an older gpuserve made it).
        seconds: How long it ran.
        made: When it ended, in UTC.
    """

    key: str
    record: StageRecord
    files: dict[str, int]
    sha256: Mapping[str, str] = {}
    seconds: float
    made: datetime


@dataclass(frozen=True)
class Entry:
    """A finished stage in the store.

    Attributes:
        stage: Name of the stage.
        key: Its key.
        folder: Where it lies.
        bytes: Size of its files.
        used: When a build last used it, in UTC.
        lock: The lock file that is held while a build makes or uses it.
    """

    stage: str
    key: str
    folder: Path
    bytes: int
    used: datetime
    lock: Path


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/gpuserve/images`, by default below `~/.cache`."""
    return folders.cache("images")


class StageStore:
    """Finished stages by name and key, for as long as it is entered: what a build uses is not removed under its feet."""

    def __init__(self, root: Path) -> None:
        """Keep everything below `root`; nothing is made before it is needed."""
        self.root = root / "stages"
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def obtain(self, stage: str, key: str, make: Callable[[Path], None], waiting: Callable[[], None] | None = None) -> Path:
        """Return the folder of a key, filled by `make` unless it is there.

        `make` fills a temporary folder and writes its `record.json` with `write_record`. It gets its final name when it is
        complete, so that a killed build leaves nothing half done under that name; what it left under another one is removed by
        the next build of the key. A second build of the key waits for the first. Files that were changed since they were
        written, by a failing disk or by hand, are made anew: what was measured is not true of them.

        Args:
            stage: Name of the stage.
            key: Its key.
            make: Fills a folder.
            waiting: Called once when another build is at work on the same key.

        Raises:
            StoreError: When the disk is full, or gives back other bytes than were written, or the folder is none or cannot be
                written.
        """
        final = self.root / stage / key
        lock = Lock(lock_of(final))
        self._held.callback(lock.close)
        try:
            with usable(self.root):
                made = False
                while not _taken(final, lock, made=made):
                    lock.alone(waiting)
                    if read_unchanged(final) is None:
                        _make(final, make)
                        made = True
                    # Between giving up the one lock and getting the other, another program may remove it: hence the loop.
                    lock.close()
                return final
        except BaseException:
            lock.close()
            raise

    def has(self, stage: str, key: str) -> bool:
        """Return whether a stage is there, and whole."""
        return read_kept(self.root / stage / key) is not None

    def record(self, stage: str, key: str) -> StageRecord | None:
        """Return what a stage did that is there, and whole; else None."""
        kept = read_kept(self.root / stage / key)
        return kept.record if kept is not None else None

    def hold(self, lock: Lock) -> None:
        """Hold a lock together with others until the store is left."""
        self._held.callback(lock.close)
        lock.together()

    def entries(self) -> Iterator[Entry]:
        """Yield every finished stage."""
        for final in sorted(self.root.glob("*/*/" + RECORD)):
            folder = final.parent
            kept = read_kept(folder)
            if kept is not None and not folder.name.startswith("."):
                # A collection may remove it meanwhile.
                with suppress(FileNotFoundError):
                    used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
                    yield Entry(folder.parent.name, folder.name, folder, sum(kept.files.values()), used, lock_of(folder))


def lock_of(folder: Path) -> Path:
    """Return the lock file of a stage's folder."""
    return folder.with_name(f"{folder.name}.lock")


def write_record(folder: Path, key: str, record: StageRecord, seconds: float) -> None:
    """Write down what a stage did, after all its files."""
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    made = datetime.now(UTC).replace(microsecond=0)
    sha256 = {name: sha256_file(folder / name) for name in files}
    kept = Kept(key=key, record=record, files=files, sha256=sha256, seconds=round(seconds, 6), made=made)
    (folder / RECORD).write_text(json.dumps(kept.model_dump(mode="json"), indent=2, sort_keys=True), encoding="utf-8")


def read_kept(folder: Path) -> Kept | None:
    """Return what a finished stage's record says, or None where the stage is not there or not whole (a machine that lost power).

    What cannot be read is not whole: a stage is made anew, which says so if it cannot be.
    """
    try:
        kept = Kept.model_validate_json((folder / RECORD).read_bytes())
        whole = kept.key == folder.name or folder.name.startswith(".")
        return kept if whole and all((folder / name).stat().st_size == size for name, size in kept.files.items()) else None
    except (OSError, ValueError):
        return None


def read_unchanged(folder: Path) -> Kept | None:
    """Return what a finished stage's record says, or None where the stage is not whole or a file has other bytes than it had.

    It reads every file, once per process, which who publishes them does anyway.
    """
    kept = read_kept(folder)
    try:
        same = kept is not None and all(sha256_file(folder / name) == digest for name, digest in kept.sha256.items())
    except OSError:
        return None
    return kept if same else None


def _taken(final: Path, lock: Lock, *, made: bool) -> bool:
    """Hold a stage together with others and note its use, if it is there and as it was written; `made` says that it was just now."""
    if read_kept(final) is None:
        return False
    lock.together()
    if read_unchanged(final) is not None:
        os.utime(final)
        return True
    if made and read_kept(final) is not None:
        raise StoreError(str(final), "holds other bytes than were written to it", "Check that disk.")
    lock.close()
    return False


def _make(final: Path, make: Callable[[Path], None]) -> None:
    for left in (final, *final.parent.glob(f".{final.name}.*")):
        discard(left)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        make(temporary)
        temporary.chmod(0o755)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
