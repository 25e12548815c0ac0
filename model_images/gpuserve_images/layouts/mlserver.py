"""MLServer: `settings.json` for the server, and a folder with `model-settings.json` per version of the model.

Fields: https://github.com/SeldonIO/MLServer, `mlserver/settings.py` (1.7). Ports are left to the server's environment variables.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gpuserve_images.layouts.features import copies
from gpuserve_images.layouts.served import Files, Layout, LayoutError, ModelFiles, ServedModel, Wishes, layout_record

ROOT = "/models"
"""The folder that `mlserver start` is given."""

SETTINGS = "model-settings.json"
"""What MLServer finds a model by, in the folder of each version."""

SCRATCH = "/tmp/mlserver"  # noqa: S108 - inside a container that runs one server
"""Where MLServer keeps metrics of its workers and unpacked environments: by default the working folder, often read-only."""


@dataclass(frozen=True)
class Runtime:
    """How MLServer runs a format.

    Attributes:
        implementation: Its class.
        suffixes: Names of files that it reads.
    """

    implementation: str
    suffixes: tuple[str, ...]


RUNTIMES: Mapping[str, Runtime] = {
    "sklearn": Runtime("mlserver_sklearn.SKLearnModel", (".joblib", ".pkl", ".pickle")),
    "xgboost": Runtime("mlserver_xgboost.XGBoostModel", (".json", ".ubj", ".bst")),
    "lightgbm": Runtime("mlserver_lightgbm.LightGBMModel", (".txt", ".bst")),
}
"""Format -> how it is run; each class comes with the package `mlserver-<format>`."""

FORMATS = tuple(RUNTIMES)
"""Formats that MLServer serves."""


def repository(model: ServedModel, wishes: Wishes) -> Layout:
    """Return the folder that `mlserver start` serves.

    MLServer has no version policy: it offers what it finds. So versions that are not to be offered are left out.

    Args:
        model: The model, in one or more versions.
        wishes: How it is to be served.

    Raises:
        LayoutError: When a file has no name that MLServer's runtime reads, or versions are missing.
    """
    offered = {number: model.version(number) for number in wishes.options.versions.offered(model.versions)}
    files: Files = {f"{ROOT}/settings.json": _json(_server(wishes))}
    for number, version in offered.items():
        folder = f"{ROOT}/{model.name}/{number}"
        files |= {f"{folder}/{name}": path for name, path in version.files.items()}
        files[f"{folder}/{SETTINGS}"] = _json(_settings(model, number, version, wishes))
    return files, layout_record("mlserver", model, files)


def _server(wishes: Wishes) -> dict[str, Any]:
    return {
        "debug": False,
        "parallel_workers": copies(wishes.options),
        "metrics_dir": f"{SCRATCH}/metrics",
        "environments_dir": f"{SCRATCH}/environments",
        "cache_enabled": wishes.options.response_cache,
    }


def _settings(model: ServedModel, number: int, version: ModelFiles, wishes: Wishes) -> dict[str, Any]:
    runtime = RUNTIMES[model.format]
    if PurePosixPath(version.entry).suffix not in runtime.suffixes:
        reason = f"is no file that {runtime.implementation} reads"
        fix = f"Save the model as one of {[f'model{suffix}' for suffix in runtime.suffixes]}."
        raise LayoutError(f"model {model.name}", reason, fix, value=version.entry)
    if version.entry == SETTINGS:
        reason = "has the name of the file that tells MLServer what the model is"
        raise LayoutError(f"model {model.name}", reason, "Call it model.json.", value=SETTINGS)
    settings: dict[str, Any] = {
        "name": model.name,
        "implementation": runtime.implementation,
        "platform": model.format,
        "parameters": {"uri": f"./{version.entry}", "version": str(number)},
        "cache_enabled": wishes.options.response_cache,
    }
    if wishes.batch.joins:
        settings |= {"max_batch_size": wishes.batch.max, "max_batch_time": wishes.batch.queue_delay.seconds}
    if model.signature is not None:
        for field, tensors in (("inputs", model.signature.inputs), ("outputs", model.signature.outputs)):
            settings[field] = [
                {"name": tensor.name, "datatype": tensor.dtype, "shape": list(tensor.shape)} for tensor in tensors
            ]
    return settings


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
