"""The export process: loads one model, then exports it and answers for it until the other side closes."""

import importlib
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpuserve_images.export.backends.model import Arrays, FailureError, Model, TakesMissing, WishedInput, Wishes
from gpuserve_images.export.backends.wire import receive, send

PACKAGE = "gpuserve_images.export.backends"


def main() -> None:
    """Answer on the socket whose file descriptor is the first argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    stream = cast("BinaryIO", connection.makefile("rwb"))
    model: Model | None = None
    while (received := receive(stream)) is not None:
        message, arrays = received
        try:
            if message["do"] == "load":
                model = _load(message)
                send(stream, _description(model, message["packages"]))
            elif model is not None and message["do"] == "export":
                model.export(Path(message["out"]))
                send(stream, {})
            elif model is not None and message["do"] == "missing":
                send(stream, {}, model.missing() if isinstance(model, TakesMissing) else {})
            elif model is not None:
                send(stream, {}, _run(model, arrays))
        except FailureError as failure:
            send(stream, {"reason": failure.reason, "fix": failure.fix, "value": failure.value})
        except Exception as error:  # noqa: BLE001 - a framework may raise anything, and the other side reports it
            traceback.print_exc()
            send(stream, {"reason": f"{type(error).__name__}: {' '.join(str(error).split())}"})


def _load(message: Mapping[str, Any]) -> Model:
    wishes: dict[str, Any] = dict(message["wishes"])
    wishes["inputs"] = tuple(
        WishedInput(each["name"], each["dtype"], None if each["shape"] is None else tuple(each["shape"]))
        for each in wishes["inputs"]
    )
    backend = importlib.import_module(f"{PACKAGE}.{message['backend']}")
    wishes["outputs"] = tuple(wishes["outputs"])
    return backend.load(Path(message["path"]), Wishes(**wishes))


def _description(model: Model, packages: list[str]) -> dict[str, Any]:
    return {
        "inputs": [asdict(port) for port in model.inputs],
        "outputs": [asdict(port) for port in model.outputs],
        "notes": list(model.notes),
        "tools": {package: version(package) for package in packages},
    }


def _run(model: Model, inputs: Arrays) -> Arrays:
    results = model.run({port.name: inputs[port.name] for port in model.inputs})
    return {port.name: result.astype(port.dtype) for port, result in zip(model.outputs, results, strict=True)}


if __name__ == "__main__":
    main()
