"""What a build of a base image leaves when it is killed: its folder in the cache, what is mounted there, and what runs in its root.

`gpuserve_images.bases` builds there, and holds a lock meanwhile: nothing is left over as long as somebody does.
"""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster import mounted

_KILL_TIMEOUT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


def folder() -> Path:
    """Return where buildah keeps what it builds; there is none when no build is under way."""
    from gpuserve_images.bases.recipes import work_folder

    return work_folder()


def left() -> list[str]:
    """Return, in words, what a killed build left; nothing while one is under way."""
    with _abandoned() as abandoned:
        if not abandoned:
            return []
        processes = [f"process: {pid} {command}" for pid, command in _processes().items()]
        return [*processes, *(f"mount: {path}" for path in mounted.below(folder())), f"folder: {folder()}"]


def remove() -> list[str]:
    """End, unmount and remove what a killed build left, and return what would not go; nothing while one is under way."""
    with _abandoned() as abandoned:
        if not abandoned:
            return []
        deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
        while stuck := _remove():
            if time.monotonic() > deadline:
                return stuck
            time.sleep(_POLL_SECONDS)
        return []


def _remove() -> list[str]:
    for pid in _processes():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    try:
        mounted.unmount(folder())
        if not mounted.below(folder()):
            shutil.rmtree(folder())
    except OSError as error:  # what was killed a moment ago wrote on
        return [f"{error.filename}: {error.strerror}"] if folder().exists() else []
    return [str(path) for path in mounted.below(folder())]


def _processes() -> dict[int, str]:
    """Return buildah's processes, and what runs in its image with an environment that bears no mark, by process id."""
    found: dict[int, str] = {}
    store = os.fsencode(folder() / "root")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            words = (process / "cmdline").read_bytes().split(b"\0")
            if store in words or (process / "root").readlink().is_relative_to(folder()):
                found[int(process.name)] = os.fsdecode(b" ".join(words)).strip()
    return found


@contextmanager
def _abandoned() -> Generator[bool]:
    """Say whether a build was killed in the folder, and hold the builds' lock meanwhile."""
    if not folder().exists():
        yield False
        return
    with folder().with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
