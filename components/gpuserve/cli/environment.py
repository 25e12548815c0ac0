"""The variables that `make up` left in this checkout, so that a plain shell finds the embedded cluster."""

import os
from collections.abc import Mapping
from pathlib import Path

_FILE = Path(".gpuserve") / "env"


def adopt_environment(start: Path | None = None) -> None:
    """Set what ``.gpuserve/env`` of the nearest checkout says and the environment does not; complete ``PATH``.

    Args:
        start: Folder to look in and above; default the working folder.
    """
    folder = start or Path.cwd()
    for candidate in (folder, *folder.parents):
        file = candidate / _FILE
        if file.is_file():
            os.environ.update(additions(_read(file), os.environ))
            return


def additions(wanted: Mapping[str, str], current: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set: those that ``current`` lacks, and ``PATH`` with the missing folders in front."""
    result = {name: value for name, value in wanted.items() if name not in current}
    if "PATH" in wanted and "PATH" in current:
        present = current["PATH"].split(os.pathsep)
        missing = [folder for folder in wanted["PATH"].split(os.pathsep) if folder not in present]
        result["PATH"] = os.pathsep.join([*missing, *present])
    return result


def _read(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value for name, _, value in pairs}
