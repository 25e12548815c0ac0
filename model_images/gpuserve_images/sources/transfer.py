"""One file from far away: continued where it was cut, tried again where that helps, verified before it counts."""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from gpuserve_images.disks import naming
from gpuserve_images.errors import SourceError
from gpuserve_images.records import Progress, know_sha256
from gpuserve_images.sources.cache import disk_full
from gpuserve_images.sources.git_lfs import POINTER
from gpuserve_images.sources.remote import CHUNK_BYTES, HiccupError, Remote, RemoteFile

ATTEMPTS = 6
"""Failures in a row, without a new byte between them, after which a download is given up; with the waits below 15 s."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
"""A server that asks for a longer pause is not waited for."""

_GIT_DIGITS = 40
_STAND_INS = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    POINTER: "a Git LFS pointer to the file",
}
_Result = TypeVar("_Result")


class Meter:
    """Adds up the bytes of all files of one download, and reports them."""

    def __init__(self, progress: Progress, total: int = 0) -> None:
        """Report to `progress`.

        Args:
            progress: Told bytes done and bytes in all.
            total: Bytes in all, as far as they are known.
        """
        self._progress = progress
        self._done = 0
        self._total = total

    def expect(self, count: int) -> None:
        """Count bytes in whose file's size was not known before."""
        self._total += count

    def add(self, count: int) -> None:
        """Count bytes that are here; a negative number when a file starts anew."""
        self._done += count
        self._progress("source", self._done, self._total)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def patiently(where: str, action: Callable[[], _Result]) -> _Result:
    """Do something that may be done again, until it works or there is no hope.

    Raises:
        SourceError: When it failed too often.
    """
    patience = _Patience(where)
    while True:
        try:
            return action()
        except HiccupError as hiccup:
            patience.wait(hiccup)


def transfer(remote: Remote, file: RemoteFile, target: Path, where: str, meter: Meter) -> str:
    """Bring one file here, or what of it is not here yet, and return its SHA-256.

    Args:
        remote: Where it is.
        file: The file; its digest is checked when it has one.
        target: Where to. Bytes that are there already are kept and hashed, and the rest is asked for.
        where: The address for messages.
        meter: Told about bytes.

    Raises:
        SourceError: When it is refused, failed too often, does not fit the disk, or is not what its digest says; then it is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    arrival = _Arrival(remote, file, target, where, meter)
    arrival.complete()
    if arrival.mismatch() and arrival.joined:
        # A part from an earlier day, or from before a change at the address, spoils the whole: once more, in one piece.
        arrival.restart()
        arrival.complete()
    wrong = arrival.mismatch()
    if wrong:
        sent = stand_in(target)
        target.unlink()
        what = f"sent {sent}" if sent else f"has {wrong}"
        reason = f"{what}, and {file.digest} was expected{f'; its digest is {wrong}' if sent else ''}; the file was removed"
        fix = "See what is at the address; when the new content is wanted, correct the pinned digest."
        raise SourceError(where, reason, fix, value=file.path)
    know_sha256(target, arrival.sha256)
    return arrival.sha256


def stand_in(path: Path) -> str | None:
    """Return what a server sent in the place of a file, as one does who wants a log-in first; None where it is not known for that."""
    with path.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    return next((what for start, what in _STAND_INS.items() if head.startswith(start)), None)


class _Arrival:
    """A file that grows."""

    def __init__(self, remote: Remote, file: RemoteFile, target: Path, where: str, meter: Meter) -> None:
        self._remote, self._file, self._target, self._where, self._meter = remote, file, target, where, meter
        self._hash: _Hash = hashlib.sha256()
        self._bytes = 0
        self._size = file.size
        self.joined = False
        if target.exists():
            with target.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    self._took(chunk)
        if self._size is not None and self._bytes > self._size:
            self.restart()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def complete(self) -> None:
        """Ask for bytes until all are here."""
        patience = _Patience(self._where)
        farthest = self._bytes
        while self._size is None or self._bytes < self._size or not self._target.exists():
            try:
                self._request()
                break
            except HiccupError as hiccup:
                if self._bytes > farthest:
                    # Only what was never reached before counts: a server without ranges that always cuts would never end.
                    farthest = self._bytes
                    patience.restore()
                patience.wait(hiccup)

    def restart(self) -> None:
        """Forget what is here."""
        self._meter.add(-self._bytes)
        self._target.unlink(missing_ok=True)
        self._hash, self._bytes, self.joined = hashlib.sha256(), 0, False

    def mismatch(self) -> str | None:
        """Return the digest that is not the expected one, or None."""
        if self._file.digest is None:
            return None
        found = self._git_id() if len(self._file.digest) == _GIT_DIGITS else self.sha256
        return None if found == self._file.digest else found

    def _request(self) -> None:
        with self._remote.read(self._file, self._bytes) as reading:
            if reading.start != self._bytes:
                if reading.start != 0:
                    raise HiccupError(f"it sent bytes from {reading.start} on, and {self._bytes} was asked for")
                self.restart()
            self.joined = self._bytes > 0
            if reading.size is not None and self._size is None:
                self._meter.expect(reading.size)
            self._size = self._size if reading.size is None else reading.size
            self._require_space()
            with naming(self._target), self._target.open("ab") as stream:
                for chunk in reading.chunks:
                    stream.write(chunk)
                    self._took(chunk)
        if self._size is not None and self._bytes != self._size:
            if self._bytes > self._size:
                self.restart()
            raise HiccupError(f"it sent {self._bytes} of {self._size} bytes")

    def _took(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._bytes += len(chunk)
        self._meter.add(len(chunk))

    def _require_space(self) -> None:
        if self._size is None:
            return
        needed = self._size - self._bytes
        if needed > shutil.disk_usage(self._target.parent).free:
            raise disk_full(self._target.parent, needed)

    def _git_id(self) -> str:
        """Return git's id of a file: SHA-1 over its type, its length and its bytes."""
        digest = hashlib.sha1(b"blob %d\0" % self._bytes, usedforsecurity=False)
        with self._target.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()


class _Patience:
    """How often something may still fail."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._failed = 0

    def restore(self) -> None:
        """There was progress."""
        self._failed = 0

    def wait(self, hiccup: HiccupError) -> None:
        """Pause before the next attempt.

        Raises:
            SourceError: When there is none.
        """
        self._failed += 1
        asked = hiccup.wait or 0.0
        if asked > LONGEST_WAIT_SECONDS:
            reason = f"{hiccup.reason}, and asks for a pause of {asked:.0f} s"
            raise SourceError(self._where, reason, "Run again after that; what was downloaded is kept.") from hiccup
        if self._failed >= ATTEMPTS:
            reason = f"failed {self._failed} times in a row: {hiccup.reason}"
            fix = "Look at the server or the network, then run again; what was downloaded is kept."
            raise SourceError(self._where, reason, fix) from hiccup
        time.sleep(max(asked, FIRST_WAIT_SECONDS * 2 ** (self._failed - 1)))
