"""Processes of a run that was killed: found by a mark in their environment, or in that of a process above them, and ended.

Pulumi's plugins look whether their engine lives, but the Kubernetes provider does so every five minutes only, and compilers
and builders of images never look.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuserve_embedded.cluster import cgroups
from gpuserve_embedded.cluster.packages import FINISHES
from gpuserve_embedded.cluster.processes import start_time

_RUN = "GPUSERVE_RUN"
_NAMESPACE = "GPUSERVE_RUN_NAMESPACE"
_ENGINE = "GPUSERVE_ENGINE"
_MARKS = (_RUN, _NAMESPACE, _ENGINE, FINISHES)
_GRACE_SECONDS = 5.0
_INSTALLATION_SECONDS = 600.0
"""For an installation of packages, which may have to download them; it is ended after that."""
_INSTALLATION_LOOK_SECONDS = 0.5
_LOOK_SECONDS = 0.1


def mark(*, engine: bool = False) -> dict[str, str]:
    """Return the variables that mark all processes below as this run's.

    Args:
        engine: Those below are Pulumi's engine and its plugins, which may finish what they began when their run is killed.
    """
    run = {_RUN: f"{os.getpid()} {start_time(os.getpid())}", _NAMESPACE: _namespace(Path("/proc/self"))}
    return {**run, **({_ENGINE: "1"} if engine else {})}


def end_orphans(progress: Callable[[str], None] = lambda _: None, *, engines: bool = True) -> None:
    """End the processes of runs that have ended, gently first; what was run in another container is not for this one to judge.

    An installation of packages is waited for: one that is cut off stops every later one. This process and those above it are
    left alone, and so is the cluster, which is no run's.

    Args:
        progress: Told what is waited for.
        engines: End Pulumi's engines and plugins too.
    """
    deadline = time.monotonic() + _INSTALLATION_SECONDS
    while (installing := [one for one in _orphans() if FINISHES in one.marks]) and time.monotonic() < deadline:
        progress(f"waiting for packages that a killed run began to install (process {installing[0].pid})")
        time.sleep(_INSTALLATION_LOOK_SECONDS)
    orphans = [one for one in _orphans() if engines or _ENGINE not in one.marks]
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for orphan in orphans:
            if orphan.lives():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan.pid, kind)
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(orphan.lives() for orphan in orphans) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    started: str
    marks: Mapping[str, str]

    def lives(self) -> bool:
        return start_time(self.pid) == self.started


def _orphans() -> list[_Process]:
    """Return the processes whose run has ended: what builds an image starts some with an environment of its own."""
    processes = {one.pid: one for folder in Path("/proc").glob("[0-9]*") if (one := _read(folder))}
    kept = {*_with_ancestors(os.getpid(), processes), *cgroups.processes()}
    found = [_Process(one.pid, one.parent, one.started, _inherited(one, processes)) for one in processes.values()]
    return [one for one in found if one.pid not in kept and _has_ended(one.marks)]


def _read(folder: Path) -> _Process | None:
    with suppress(OSError, ValueError):  # it has ended meanwhile, or is another user's
        state, parent, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
        pairs = (entry.partition("=") for entry in (folder / "environ").read_bytes().decode(errors="replace").split("\0"))
        marks = {_NAMESPACE: _namespace(folder), **{name: value for name, _, value in pairs if name in _MARKS}}
        return None if state in "ZX" else _Process(int(folder.name), int(parent), rest[17], marks)
    return None


def _inherited(process: _Process, processes: Mapping[int, _Process]) -> Mapping[str, str]:
    """Return the marks of the process, or of the nearest above it that is marked."""
    for pid in _with_ancestors(process.pid, processes):
        if _RUN in processes[pid].marks:
            return processes[pid].marks
    return {}


def _with_ancestors(pid: int, processes: Mapping[int, _Process]) -> list[int]:
    found: list[int] = []
    while pid in processes and pid not in found:
        found.append(pid)
        pid = processes[pid].parent
    return found


def _has_ended(marks: Mapping[str, str]) -> bool:
    if marks.get(_NAMESPACE) != _namespace(Path("/proc/self")):
        return False
    pid, _, started = marks[_RUN].partition(" ")
    return pid.isdigit() and start_time(int(pid)) != started


def _namespace(process: Path) -> str:
    """Return which process ids a process speaks of: a container counts its own, and builders of images do."""
    with suppress(OSError):
        return str((process / "ns" / "pid").readlink())
    return ""
