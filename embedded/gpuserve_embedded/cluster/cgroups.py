"""Control groups: the cluster's processes are those below one group, however they were started or orphaned."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpuserve_embedded.cluster.layout import CGROUP

_CGROUP2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_OURS = re.compile(rf"^\d+:[^:]*:/{CGROUP}(/|$)")
_KILL_TIMEOUT_SECONDS = 30.0  # with every processor busy, the end of a large process takes seconds
_POLL_SECONDS = 0.05


def create() -> None:
    """Create the cluster's group in every hierarchy; the kubelet refuses a root group that lacks one.

    With version 2 the controllers that exist are handed down, and with version 1 the processors and memory nodes,
    without which no process can be put into a ``cpuset`` group.
    """
    for hierarchy in hierarchies():
        group = hierarchy / CGROUP
        if (hierarchy / "cgroup.controllers").exists():
            _hand_down(hierarchy)
            group.mkdir(exist_ok=True)
            _hand_down(group)
            continue
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())


def create_for(daemon: str) -> Path:
    """Create the group that a daemon is started in, and return the file that a process writes its id to."""
    group = _tracking_hierarchy() / CGROUP / "daemons" / daemon
    group.mkdir(parents=True, exist_ok=True)
    return group / "cgroup.procs"


def processes() -> dict[int, str]:
    """Return the command line of every process of the cluster, by process id."""
    found: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            if any(_OURS.match(line) for line in (folder / "cgroup").read_text().splitlines()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if command:  # one that ends has none; `remove` waits for it, as its group stays until it is gone
                    found[int(folder.name)] = command
    return found


def kill_all() -> list[str]:
    """Kill every process of the cluster and return the command lines of those that would not end."""
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while remaining := processes():
        for pid in remaining:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return list(remaining.values())
        time.sleep(_POLL_SECONDS)
    return []


def remove() -> None:
    """Remove the cluster's groups; their processes have to be gone.

    A process that was killed leaves its group only when the kernel is done with it, so a busy group is tried again.
    """
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while found := groups():
        for group in found:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        if time.monotonic() > deadline:  # it stays, and is reported as left over
            return
        time.sleep(_POLL_SECONDS)


def groups() -> list[Path]:
    """Return the cluster's group in every hierarchy where it exists."""
    return [group for hierarchy in hierarchies() if (group := hierarchy / CGROUP).is_dir()]


def hierarchies() -> list[Path]:
    """Return where the control group file systems are mounted, versions 1 and 2."""
    return [path for kind, path in _mounts() if kind in {"cgroup", "cgroup2"}]


def _tracking_hierarchy() -> Path:
    """Return the one hierarchy that daemons are put into.

    Version 2 where there is one, hybrid machines included: what a daemon starts stays in its group there. Leaving the
    other hierarchies alone keeps the limits that this process was started under.
    """
    mounts = list(_mounts())
    for kind, path in mounts:
        if kind == "cgroup2":
            return path
    for _, path in mounts:
        if (path / "pids.max").exists() or path.name == "pids":
            return path
    return mounts[0][1]


def _mounts() -> Iterator[tuple[str, Path]]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split(" ")
        if kind in {"cgroup", "cgroup2"} and path.startswith("/sys/fs/cgroup"):
            yield kind, Path(path)


def _hand_down(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    for controller in _CGROUP2_CONTROLLERS:
        if controller in available:
            with suppress(OSError):  # the kubelet names a controller that it misses
                (group / "cgroup.subtree_control").write_text(f"+{controller}")
