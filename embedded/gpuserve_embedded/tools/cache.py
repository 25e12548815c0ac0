"""The folder that keeps programs between runs, and how something is put into it whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_UNFINISHED = ".unfinished-"


def tools_folder() -> Path:
    """The folder of kept programs: `$XDG_CACHE_HOME/gpuserve/tools`, by default under `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "gpuserve" / "tools"


def kept(name: str) -> Path | None:
    """The cache's folder `name`, or None where it was never made."""
    folder = tools_folder() / name
    return folder if folder.is_dir() else None


def put(name: str, make: Callable[[Path], None], progress: Callable[[str], None]) -> Path:
    """Return the cache's folder `name`, making it first if it is not there.

    Of several processes that want to make something one does and the others wait, then find it done: on a small machine
    two builds at once are slower than one after the other. What `make` leaves appears under its name in one step, so a
    process killed half-way leaves nothing that looks finished.

    Args:
        name: The folder's name; different content must have a different name.
        make: Fills the empty folder that it is given; raises if it cannot.
        progress: Told when another process is waited for.

    Returns:
        The finished folder.
    """
    root = tools_folder()
    final = root / name
    if kept(name):
        return final
    root.mkdir(parents=True, exist_ok=True)
    with _only_one(root / ".lock", progress):
        if kept(name):
            return final
        for abandoned in root.glob(f"{_UNFINISHED}*"):  # nobody else is at work: the lock is ours
            shutil.rmtree(abandoned, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root))
        unfinished.chmod(0o755)
        try:
            make(unfinished)
            unfinished.rename(final)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return final


@contextmanager
def _only_one(lock: Path, progress: Callable[[str], None]) -> Generator[None]:
    """Hold a lock that the kernel drops when this process ends, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting: another process is building programs")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
