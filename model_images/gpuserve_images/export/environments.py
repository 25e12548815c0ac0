"""Which Python environment holds a back end: the one that GPUSERVE_EXPORT_PYTHON names, or gpuserve's own."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.errors import ExportError

VARIABLE = "GPUSERVE_EXPORT_PYTHON"
Framework = Literal["sklearn", "xgboost", "lightgbm", "torch", "tensorflow"]
"""The formats of `gpuserve_images.sources.spec` that become ONNX through a framework of their own."""


class Backend(Spec):
    """One back end.

    Attributes:
        module: Its module in `export/backends`.
        extra: The extra of gpuserve that installs what it needs.
        packages: The packages whose version can change the exported model.
    """

    module: str
    extra: str
    packages: tuple[str, ...]


BACKENDS: dict[Framework, Backend] = {
    "sklearn": Backend(module="sklearn_model", extra="export-sklearn", packages=("scikit-learn", "skl2onnx", "onnx", "numpy")),
    "xgboost": Backend(module="xgboost_model", extra="export-xgboost", packages=("xgboost-cpu|xgboost", "onnx", "numpy")),
    "lightgbm": Backend(module="lightgbm_model", extra="export-lightgbm", packages=("lightgbm", "onnx", "numpy")),
    "torch": Backend(module="torch_model", extra="export-torch", packages=("torch", "onnxscript", "onnx", "safetensors")),
    "tensorflow": Backend(
        module="tensorflow_model", extra="export-tensorflow", packages=("tensorflow-cpu|tensorflow", "tf2onnx", "onnx")
    ),
}
VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for package in sys.argv[1:]:
    try: found[package] = version(package)
    except PackageNotFoundError: pass
print(json.dumps(found))
"""


class Environment(Spec):
    """An interpreter and the versions of a back end's packages in it."""

    python: Path
    versions: dict[str, str]


def environment(kind: Framework) -> Environment:
    """Return the environment of a back end: the one of `GPUSERVE_EXPORT_PYTHON` when it has all packages, else this one.

    Raises:
        ExportError: When neither has them; names the extra that installs them.
    """
    backend = BACKENDS[kind]
    missing: list[str] = []
    other = os.environ.get(VARIABLE)
    for python in (*([other] if other else []), sys.executable):
        installed = _versions(python, backend.packages)
        chosen = {choice: _first(choice, installed) for choice in backend.packages}
        missing = [choice.replace("|", " or ") for choice, name in chosen.items() if name is None]
        if not missing:
            return Environment(python=Path(python), versions={name: installed[name] for name in chosen.values() if name})
    reason = f"needs packages that are not installed: {', '.join(missing)}"
    fix = f"pip install 'gpuserve[{backend.extra}]', or name a Python that has them in {VARIABLE}"
    raise ExportError(f"export of {kind} models", reason, fix)


def _first(choice: str, installed: dict[str, str]) -> str | None:
    return next((name for name in choice.split("|") if name in installed), None)


def _versions(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    names = [name for choice in packages for name in choice.split("|")]
    if python == sys.executable:
        return {name: found for name in names if (found := _version(name)) is not None}
    return _asked(python, tuple(names))


@lru_cache(maxsize=64)
def _asked(python: str, names: tuple[str, ...]) -> dict[str, str]:
    try:
        done = subprocess.run([python, "-I", "-c", VERSIONS, *names], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ExportError(VARIABLE, f"is no Python that runs: {error}", "Name a Python interpreter.", value=python) from error
    return json.loads(done.stdout)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
