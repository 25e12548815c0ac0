"""Which Python a project runs in, and what is installed there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Runs in the project's interpreter, which need not have this project: nothing but the standard library.
_LIST_PACKAGES = """
import importlib.metadata, json, re
packages = []
for found in importlib.metadata.distributions():
    name = found.metadata["Name"]
    plugin = None
    for file in found.files or ():
        if file.name == "pulumi-plugin.json" and len(file.parts) == 2:
            plugin = json.loads(file.locate().read_text())
    needs = [re.match(r"[\\w.-]+", line).group() for line in found.requires or () if "extra ==" not in line]
    packages.append({"name": name, "version": found.version, "plugin": plugin, "needs": needs})
print(json.dumps(packages))
"""


class InterpreterError(Exception):
    """A project's settings name no usable Python."""


@dataclass(frozen=True)
class Interpreter:
    """A Python to run a project's code with.

    Attributes:
        executable: Its file.
        environment: The virtual environment's folder, if it is one that the project names.
    """

    executable: str
    environment: Path | None = None

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """A process environment in which the project's own commands come first, as in an activated environment."""
        variables = dict(base)
        variables.pop("PYTHONHOME", None)
        if self.environment is not None:
            variables["VIRTUAL_ENV"] = str(self.environment)
            variables["PATH"] = os.pathsep.join([str(self.environment / "bin"), base.get("PATH", "")])
        return variables

    def version(self) -> str:
        """The interpreter's version, for example `3.11.4`."""
        return self._run("-c", "import platform; print(platform.python_version())").strip()

    def packages(self) -> list[dict[str, Any]]:
        """Every installed distribution: `name`, `version`, what it `needs`, and the `plugin` that it says it has."""
        return json.loads(self._run("-c", _LIST_PACKAGES))

    def _run(self, *arguments: str) -> str:
        run = subprocess.run([self.executable, *arguments], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise InterpreterError(f"{self.executable} ended with status {run.returncode}: {run.stderr.strip()}")
        return run.stdout


def find_interpreter(root: Path, options: Mapping[str, Any], *, must_exist: bool = True) -> Interpreter:
    """Return the Python that a project's `runtime.options` name.

    Args:
        root: The folder of Pulumi.yaml, which a relative `virtualenv` starts from.
        options: `virtualenv` and `toolchain` (`pip`, `uv` or `poetry`), as in Pulumi.yaml.
        must_exist: Whether a missing environment is an error; it is none while dependencies are being installed.

    Returns:
        The environment's Python, else the one that `PULUMI_PYTHON_CMD` names, else the host's own.

    Raises:
        InterpreterError: The environment is not there, or Poetry does not say where it is.
    """
    folder = _environment_folder(root, options)
    if folder is None:
        named = os.environ.get("PULUMI_PYTHON_CMD")
        return Interpreter((shutil.which(named) or named) if named else sys.executable)
    interpreter = folder / "bin" / "python"
    if must_exist and not os.access(interpreter, os.X_OK):
        raise InterpreterError(
            f"{root / 'Pulumi.yaml'}: runtime.options.virtualenv: there is no virtual environment at {folder}; "
            "run 'pulumi install' to make it"
        )
    return Interpreter(str(interpreter), folder)


def _environment_folder(root: Path, options: Mapping[str, Any]) -> Path | None:
    named = options.get("virtualenv")
    if named:
        return root / str(named)
    toolchain = options.get("toolchain")
    if toolchain == "uv":
        return root / ".venv"
    if toolchain == "poetry":
        try:
            run = subprocess.run(["poetry", "env", "info", "--path"], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InterpreterError(
                f"runtime.options.toolchain: poetry does not say where its environment is: {error}"
            ) from error
        return Path(run.stdout.strip())
    return None
