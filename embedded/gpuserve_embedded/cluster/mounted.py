"""What is mounted below some folders, and taking it away."""

import ctypes
import os
from pathlib import Path
from typing import Final

_DETACH: Final = 2
"""``MNT_DETACH`` of umount(2): gone from the tree at once, released when the last user is."""


def below(*folders: Path) -> list[Path]:
    """Return the mount points below the folders, the deepest last."""
    found: list[Path] = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        path = Path(line.split(" ")[1].encode().decode("unicode_escape"))  # spaces are written as \040
        if any(path.is_relative_to(folder) for folder in folders):
            found.append(path)
    return found


def unmount(*folders: Path) -> list[Path]:
    """Unmount all below the folders, and return what would not go."""
    libc = ctypes.CDLL(None, use_errno=True)
    for path in reversed(below(*folders)):
        if libc.umount2(os.fsencode(path), 0) != 0:
            libc.umount2(os.fsencode(path), _DETACH)
    return below(*folders)
