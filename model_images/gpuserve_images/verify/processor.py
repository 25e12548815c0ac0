"""The processor of this machine."""

import os
from functools import cache
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@cache
def processor() -> str:
    """Return the name of this machine's processor, or `unknown processor`."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
