"""The real tritonserver of the nvidia-pytriton wheel on a model repository, without root and without an image.

It is put together as `model_images/triton-cpu/Dockerfile` does it, from the same lock file, with the same back end.
"""

import ctypes
import os
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Self

from environments import packages
from server_process import server_process
from v2_client import free_port, wait_until_ready

RECIPE = Path(__file__).parents[2] / "model_images/triton-cpu"
START = 60
SETTLE = 10
"""Seconds that Triton gets to count what it answered."""


def missing() -> str:
    """Return why Triton cannot run on this machine, or nothing."""
    try:
        ctypes.CDLL("libpython3.11.so.1.0")
    except OSError:
        return "Triton's Python backend needs libpython3.11: apt-get install libpython3.11"
    return ""


class TritonServer:
    """Runs while it is entered."""

    def __init__(self, repository: Path, scratch: Path, *options: str) -> None:
        """Serve `repository`; logs and the copied back ends go to `scratch`."""
        self._repository, self._scratch, self._options = repository, scratch, options
        self.http, self.grpc, self.metrics = (free_port() for _ in range(3))
        self.log = scratch / "triton.log"

    def __enter__(self) -> Self:
        wheels = packages(RECIPE / "requirements.txt")
        server = wheels / "pytriton/tritonserver"
        backends = self._scratch / "backends"
        shutil.copytree(server / "backends", backends)
        shutil.copytree(server / "python_backend_stubs/3.11", backends / "python", dirs_exist_ok=True)
        # The stub's isolated interpreter looks for modules beside itself.
        for module in ("numpy", "numpy.libs", "onnxruntime"):
            (backends / "python" / module).symlink_to(wheels / module)
        (backends / "onnxruntime").mkdir()
        shutil.copy(RECIPE / "onnx_model.py", backends / "onnxruntime/model.py")
        command = [
            str(server / "bin/tritonserver"),
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            f"--cache-directory={server / 'caches'}",
            *(f"--{name}-port={port}" for name, port in (("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics))),
            *(f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")),
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            "--allow-gpu-metrics=false",
            # Two servers on one machine must not share memory regions.
            f"--backend-config=python,shm-region-prefix-name=gpuserve-{os.getpid()}-{self.http}",
            *self._options,
        ]
        # The stub's interpreter takes the first `python3` of the search path for its own: of a virtual environment, modules too.
        environment = {**os.environ, "LD_LIBRARY_PATH": str(wheels / "nvidia_pytriton.libs"), "PATH": os.defpath}
        with ExitStack() as stack:
            process = stack.enter_context(server_process(command, self.log, env=environment))
            # Triton opens the port of its metrics after that of its models.
            for address in (f"127.0.0.1:{self.http}/v2/health/ready", f"127.0.0.1:{self.metrics}/metrics"):
                wait_until_ready(f"http://{address}", process, self.log, START)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def counters(self, at_least: Mapping[str, float] = MappingProxyType({})) -> Counter[str]:
        """Return Triton's counters by `name{model,version}`; a request is counted after its answer was sent, so some are waited for."""
        deadline = time.monotonic() + SETTLE
        while True:
            text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5).read().decode()
            rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            found = Counter({name: float(value) for name, value in rows})
            if all(found[name] >= value for name, value in at_least.items()) or time.monotonic() > deadline:
                return found
            time.sleep(0.05)
