"""Processes of an engine that was killed, or whose run was: found by a mark in their environment, and ended.

A plugin looks whether its engine lives, but the Kubernetes provider does so every five minutes only.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpuserve_embedded.cluster.processes import start_time

_MARK = "GPUSERVE_RUN"
_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


def mark() -> dict[str, str]:
    """Return the variable that marks all processes below as this run's."""
    return {_MARK: f"{os.getpid()} {start_time(os.getpid())}"}


def end_orphans() -> None:
    """End the marked processes whose run has ended, gently first."""
    orphans = dict(_orphans())
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in _living(orphans):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, kind)
        deadline = time.monotonic() + _GRACE_SECONDS
        while _living(orphans) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)


def _orphans() -> Iterator[tuple[int, str]]:
    """Yield the process id and the start time of each."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it has ended meanwhile, or is another user's
            run = _marked(folder / "environ")
            started = start_time(int(folder.name))
            if run and started and start_time(int(run[0])) != run[1]:
                yield int(folder.name), started


def _marked(environment: Path) -> list[str]:
    """Return the process id and the start time of the run that a process belongs to; nothing where it belongs to none."""
    mark_ = f"{_MARK}=".encode()
    variables = environment.read_bytes().split(b"\0")
    return next((variable[len(mark_) :].decode().split() for variable in variables if variable.startswith(mark_)), [])


def _living(processes: dict[int, str]) -> list[int]:
    return [pid for pid, started in processes.items() if start_time(pid) == started]
