"""Locks between processes: the kernel frees those of a killed one."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path


class Lock:
    """A lock file that is held, alone or together with others, until it is closed."""

    def __init__(self, path: Path) -> None:
        """Hold nothing yet."""
        self._path = path
        self._handle: int | None = None

    def alone(self, waiting: Callable[[], None] | None = None) -> None:
        """Hold it alone; `waiting` is called once when somebody else holds it."""
        if not self._take(fcntl.LOCK_EX | fcntl.LOCK_NB):
            if waiting:
                waiting()
            self._take(fcntl.LOCK_EX)

    def try_alone(self) -> bool:
        """Hold it alone if nobody else does; say whether it is held."""
        return self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)

    def together(self) -> None:
        """Hold it together with others: nobody gets it alone any more."""
        self._take(fcntl.LOCK_SH)

    def remove(self) -> None:
        """Delete the lock file, while it is held alone, and let go of it."""
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _take(self, operation: int) -> bool:
        """Take the lock of the file that is there now: one that was deleted meanwhile protects nothing."""
        while True:
            if self._handle is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._handle, operation)
            except BlockingIOError:
                self.close()
                return False
            if self._current(self._handle):
                return True
            self.close()

    def _current(self, handle: int) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(handle)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
