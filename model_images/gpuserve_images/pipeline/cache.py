"""The local cache of finished builds: done once per key, whole or not there."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/gpuserve/images`, by default below `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gpuserve" / "images"


@contextmanager
def locked(key: str, root: Path) -> Generator[None]:
    """Hold the lock of a key; a second build of it waits here. The kernel frees the lock of a killed process."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{key}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def once(key: str, root: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder of a key, made by `make` unless it is there; call it with the key's lock held.

    `make` fills a temporary folder, which gets its final name only when it is complete, so a killed build leaves nothing half done
    under that name. What killed builds of the same key left behind is removed.
    """
    final = root / key
    if final.is_dir():
        return final
    for left in root.glob(f".{key}.*"):
        shutil.rmtree(left)
    temporary = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=root))
    try:
        make(temporary)
        temporary.chmod(0o755)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final
