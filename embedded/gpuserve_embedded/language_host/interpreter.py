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

# These run in the project's interpreter, which need not have this project: nothing but the standard library.
_LIST_PACKAGES = """
import importlib.metadata, json, re
packages = []
for found in importlib.metadata.distributions():
    needs = [re.match(r"[\\w.-]+", line).group() for line in found.requires or () if "extra ==" not in line]
    packages.append({"name": found.metadata["Name"], "version": found.version, "needs": needs})
print(json.dumps(packages))
"""
# An SDK keeps this file in its package. Asking each distribution for its files would read every list of files there is.
_LIST_PLUGINS = """
import glob, importlib.metadata, json, os, sys
plugins = []
for path in [path for folder in sys.path for path in glob.glob(os.path.join(folder, "*", "pulumi-plugin.json"))]:
    with open(path) as file:
        plugin = json.load(file)
    package = os.path.basename(os.path.dirname(path))
    if plugin.get("resource"):
        name = plugin.get("name") or package.replace("pulumi_", "", 1)
        version = plugin.get("version") or importlib.metadata.version(package)
        plugins.append({"name": name, "version": version, "server": plugin.get("server") or ""})
print(json.dumps(plugins))
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
        """Every installed distribution: its `name`, its `version` and the names of those that it `needs`."""
        return json.loads(self._run("-c", _LIST_PACKAGES))

    def plugins(self) -> list[dict[str, str]]:
        """The plugins that installed SDKs ask for: `name`, `version` and, unless it is Pulumi's own, the `server`."""
        return json.loads(self._run("-c", _LIST_PLUGINS))

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
