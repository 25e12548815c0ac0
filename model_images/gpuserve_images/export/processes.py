"""The export process: another Python process, in this environment or in one of its own, that holds one framework.

A framework is hundreds of megabytes of code and threads that a builder would never be rid of, two of them ask for different
protobufs, and a crash of a converter would end the build without a word. So each runs in a child, which is asked over a socket.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from numpy.typing import NDArray

from gpuserve_images.errors import ExportError
from gpuserve_images.export.backends.wire import receive, send

HERE = Path(__file__).parent
START = """
import runpy, sys, types
for name, folder in {packages!r}.items():
    module = types.ModuleType(name)
    module.__path__ = [folder]
    sys.modules[name] = module
runpy.run_module("gpuserve_images.export.backends", run_name="__main__", alter_sys=True)
"""
"""The other environment does not have gpuserve, so the back ends' package is found by its folder alone."""
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0"}
"""Converters print and guess; oneDNN rounds differently; the GPU is not theirs; and a fixed seed makes the same bytes each time."""
TAIL = 12
"""Lines of a crashed process's output that are shown."""


class ExportProcess:
    """A running export process; a context manager that ends it."""

    def __init__(self, python: Path, where: str) -> None:
        """Start a process.

        Args:
            python: The interpreter, which has the framework.
            where: What errors are about: the model's path.
        """
        self._where = where
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        ours, theirs = socket.socketpair()
        packages = {"gpuserve_images": str(HERE.parent), "gpuserve_images.export": str(HERE)}
        # Frameworks leave files (TensorFlow the code that it generates) where they are ended and do not end.
        self._scratch = tempfile.TemporaryDirectory(prefix="gpuserve-export-", ignore_cleanup_errors=True)
        environment = {**os.environ, **QUIET, "TMPDIR": self._scratch.name}
        if python != Path(sys.executable):
            environment.pop("PYTHONPATH", None)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-W", "ignore", "-P", "-c", START.format(packages=packages), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment,
            )
        self._socket = ours
        self._stream = cast("BinaryIO", ours.makefile("rwb"))

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def ask(
        self, message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Send a message and return the answer.

        Raises:
            ExportError: When the back end refuses, or its process ended.
        """
        try:
            send(self._stream, message, arrays)
            answer = receive(self._stream)
        except (BrokenPipeError, ConnectionResetError):
            answer = None
        if answer is None:
            raise self._crash()
        if "reason" in answer[0]:
            refusal = answer[0]
            fix = refusal.get("fix") or f"Export the model to ONNX yourself.{self._tail()}"
            raise ExportError(self._where, refusal["reason"], fix, value=refusal.get("value"))
        return answer

    def close(self) -> None:
        """Let the process end, and wait for it."""
        with contextlib.suppress(OSError):  # what was not sent yet cannot be, when the process has gone
            self._stream.close()
        self._socket.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()
        self._scratch.cleanup()

    def _crash(self) -> ExportError:
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        reason = f"cannot be exported: the export process {how}"
        fix = "Out of memory ends it with SIGKILL; else export the model to ONNX yourself."
        return ExportError(self._where, reason, fix + self._tail())

    def _tail(self) -> str:
        self._log.seek(0)
        lines: Sequence[str] = self._log.read().decode(errors="replace").splitlines()[-TAIL:]
        return "".join(f"\n    {line}" for line in lines)
