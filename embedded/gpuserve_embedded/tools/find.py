"""Where a program comes from: the user's own, its publisher's release, or a build."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_embedded.tools.build import build
from gpuserve_embedded.tools.cache import tools_folder
from gpuserve_embedded.tools.catalogue import PROGRAMS, Program
from gpuserve_embedded.tools.errors import ToolError
from gpuserve_embedded.tools.release import download

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STAND_IN_MARK = "gpuserve_embedded.language_host"
"""What stands in every wrapper that this project writes, so that it is not mistaken for the official program."""

_MARK_WITHIN_BYTES = 4096
_VERSION_SECONDS = 20.0


def ensure(program: str, progress: Callable[[str], None]) -> Path:
    """Return a program's path, getting the program first if it is not there.

    The order is: the user's own on PATH (Pulumi's programs only), the publisher's release, a build from the Go module.
    Downloads and builds are kept, so only the first call takes time.

    Args:
        program: A key of `PROGRAMS`, for example `kube`, `kubectl`, `coredns`, `pulumi`.
        progress: Told, line by line, what is going on.

    Returns:
        The path of an executable file.

    Raises:
        ToolError: It is not known, or can be neither found nor downloaded nor built.
    """
    entry = PROGRAMS.get(program)
    if entry is None:
        raise ToolError(program, "no such program is known", f"name one of: {', '.join(PROGRAMS)}")
    found = _on_path(entry, progress) if entry.on_path else None
    if found is None and entry.release is not None:
        released = download(entry.release, progress)
        found = released / program if released is not None else None
    if found is None and entry.module is not None:
        found = build(entry.module, progress) / program
    if found is None:
        raise ToolError(
            program,
            "it is not on PATH, its release cannot be downloaded here, and there is no module to build it from",
            "install the official Pulumi CLI, which brings it",
        )
    return found


def ensure_all(programs: Iterable[str], progress: Callable[[str], None]) -> dict[str, Path]:
    """Return the paths of several programs, getting them one after the other; see `ensure`.

    Each line of progress begins with how far it is, such as ``[3/9]``.
    """
    wanted = list(programs)
    found: dict[str, Path] = {}
    for number, program in enumerate(wanted, start=1):
        found[program] = ensure(program, lambda line, number=number: progress(f"[{number}/{len(wanted)}] {line}"))
    return found


def _on_path(entry: Program, progress: Callable[[str], None]) -> Path | None:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidate = Path(folder or ".") / entry.name
        if not (candidate.is_file() and os.access(candidate, os.X_OK)) or _is_kept(candidate) or is_stand_in(candidate):
            continue
        if entry.oldest is None:
            return candidate
        version = _version(candidate)
        if version is not None and version[0] == entry.oldest[0] and version >= entry.oldest:
            return candidate
        wanted = ".".join(map(str, entry.oldest))
        progress(f"{candidate} is not used: it is {version or 'of unknown version'}, and {wanted} or newer is needed")
    return None


def is_stand_in(program: Path) -> bool:
    """Whether a program is a wrapper that this project wrote for want of the official one."""
    with program.open("rb") as file:
        return STAND_IN_MARK.encode() in file.read(_MARK_WITHIN_BYTES)


def _is_kept(program: Path) -> bool:
    """Whether a program on PATH is a link into the cache: it must not shadow what the cache has for this version."""
    return program.resolve().is_relative_to(tools_folder().resolve())


def _version(program: Path) -> tuple[int, int, int] | None:
    try:
        run = subprocess.run([program, "version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", run.stdout)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
