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
from gpuserve_embedded.cluster.layout import cache_folder

_KILL_TIMEOUT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


def folder() -> Path:
    """Return where buildah keeps what it builds; there is none when no build is under way."""
    return cache_folder() / "buildah"


def left() -> list[str]:
    """Return, in words, what a killed build left; nothing while one is under way."""
    if not folder().exists():
        return []
    with _nobody_builds() as abandoned:
        if not abandoned:
            return []
        processes = [f"process: {pid} in {root}" for pid, root in _processes().items()]
        return [*processes, *(f"mount: {path}" for path in mounted.below(folder())), f"folder: {folder()}"]


def remove() -> list[str]:
    """End, unmount and remove what a killed build left, and return what would not go; nothing while one is under way."""
    if not folder().exists():
        return []
    with _nobody_builds() as abandoned:
        if not abandoned:
            return []
        deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
        while (running := _processes()) and time.monotonic() < deadline:
            for pid in running:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        stubborn = [str(path) for path in mounted.unmount(folder())]
        if not stubborn:
            shutil.rmtree(folder())
        return [*map(str, running), *stubborn]


def _processes() -> dict[int, Path]:
    """Return what runs in an image that was being built, by process id: its environment is the image's, so it bears no mark."""
    found: dict[int, Path] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            root = (process / "root").readlink()
            if root.is_relative_to(folder()):
                found[int(process.name)] = root
    return found


@contextmanager
def _nobody_builds() -> Generator[bool]:
    """Hold the builds' lock, and say whether it was to be had."""
    with folder().with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
