"""The open inference protocol v2 over HTTP, and waiting for servers that speak it."""

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import requests

TYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def get(url: str) -> Any:
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    return answer.json() if answer.headers.get("Content-Type", "").startswith("application/json") else answer.text


def post(url: str, body: object) -> Any:
    answer = requests.post(url, json=body, timeout=120)
    answer.raise_for_status()
    return answer.json()


def infer(address: str, model: str, tensors: dict[str, np.ndarray], version: str = "") -> dict[str, np.ndarray]:
    """Return the outputs of a model at `http://<address>/v2`."""
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": TYPES[array.dtype.name], "data": array.ravel().tolist()}
        for name, array in tensors.items()
    ]
    path = f"/versions/{version}" if version else ""
    answer = post(f"http://{address}/v2/models/{model}{path}/infer", {"inputs": inputs})
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in answer["outputs"]}


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 90) -> None:
    """Wait for a URL to answer 200; fail with the end of the log when the process ends first, or in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready at {url}:\n{log.read_text(errors='replace')[-6000:]}")
