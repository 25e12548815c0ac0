"""What is mounted below some folders, and taking it away."""

import ctypes
import os
from pathlib import Path
from typing import Final

from gpuserve_images.mounts import mount_points

_DETACH: Final = 2
"""``MNT_DETACH`` of umount(2): gone from the tree at once, released when the last user is."""


def below(*folders: Path) -> list[Path]:
    """Return the mount points below the folders, the deepest last; a folder that is one itself is its user's."""
    wanted = [folder.resolve() for folder in folders]
    return [point for point in mount_points() if any(folder in point.parents for folder in wanted)]


def unmount(*folders: Path) -> list[Path]:
    """Unmount all below the folders, and return what would not go."""
    libc = ctypes.CDLL(None, use_errno=True)
    for path in reversed(below(*folders)):
        if libc.umount2(os.fsencode(path), 0) != 0:
            libc.umount2(os.fsencode(path), _DETACH)
    return below(*folders)


def is_lent(folder: Path) -> bool:
    """Return whether a user has given the folder a place of its own, on a larger disk perhaps: it is emptied and stays."""
    return folder.is_symlink() or folder.resolve() in mount_points()


def is_used(folder: Path) -> bool:
    """Return whether the folder is there, and holds something where it would stay though all in it were removed."""
    return folder.exists() and (not is_lent(folder) or bool(contents(folder)))


def contents(folder: Path) -> list[Path]:
    """Return what lies in a folder, but for what every new ext4 has."""
    return [path for path in folder.iterdir() if path.name != "lost+found"]
