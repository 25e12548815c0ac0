"""Where something is mounted on this machine."""

import os
import re
from pathlib import Path


def mount_points() -> list[Path]:
    """Return every mount point, the deepest of a branch last, whatever bytes its name has."""
    lines = Path("/proc/self/mounts").read_bytes().split(b"\n")
    return [Path(os.fsdecode(_unescaped(line.split(b" ")[1]))) for line in lines if line]


def _unescaped(path: bytes) -> bytes:
    """Return a path as it is: the kernel writes a space, and the like, as a backslash and three octal digits."""
    return re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), path)
