"""The variables that `make up` left in this checkout, so that a plain shell finds the embedded cluster."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_FILE = Path(".gpuserve") / "env"
_LISTS = {"PATH": os.pathsep, "NO_PROXY": ",", "no_proxy": ","}
"""Variables that are completed, with what separates their entries."""


def adopt_environment(start: Path | None = None) -> None:
    """Set what ``.gpuserve/env`` of the nearest checkout says and the environment does not; complete ``PATH`` and ``NO_PROXY``.

    A file that this user may not read is root's, and so is the cluster that it speaks of: it is left alone. A working folder that was deleted
    is below no checkout.

    Args:
        start: Folder to look in and above; default the working folder.
    """
    try:
        folder = start or Path.cwd()
    except FileNotFoundError:
        return
    for candidate in (folder, *folder.parents):
        file = candidate / _FILE
        with suppress(PermissionError):
            if file.is_file():
                os.environ.update(additions(_read(file), os.environ))
                return


def additions(wanted: Mapping[str, str], current: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set: those that ``current`` lacks, and the lists with their missing entries in front."""
    result = {name: value for name, value in wanted.items() if name not in current}
    for name in _LISTS.keys() & wanted.keys() & current.keys():
        present = current[name].split(_LISTS[name])
        missing = [entry for entry in wanted[name].split(_LISTS[name]) if entry not in present]
        result[name] = _LISTS[name].join([*missing, *present])
    return result


def _read(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value for name, _, value in pairs}
