"""The folders of the user who runs this: home, and what may be made again."""

import os
from pathlib import Path

from gpuserve_images.errors import SourceError


def home() -> Path | None:
    """Return the user's home; None for one that has none, such as a container's number without an entry in /etc/passwd."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def cache(name: str) -> Path:
    """Return `$XDG_CACHE_HOME/gpuserve/<name>`, by default below `~/.cache`.

    Raises:
        SourceError: When neither is to be had.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named, "gpuserve", name)
    found = home()
    if found is None:
        reason = "is not set, and this user has no home directory, so there is no place for the cache"
        raise SourceError("XDG_CACHE_HOME", reason, "Set it to a folder that may be written, or set HOME.")
    return found / ".cache" / "gpuserve" / name
