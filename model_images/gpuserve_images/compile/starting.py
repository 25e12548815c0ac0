"""A builder's objects as they are started: its logger, the builder itself, and the runtime that loads engines."""

import ctypes
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gpuserve_images.compile.builders import engine_of
from gpuserve_images.compile.errors import CompileError

DRIVER = (
    "Look at the driver with `gpuserve doctor`: TensorRT for CUDA 13, which `pip install tensorrt` brings, needs 580 or later, "
    "and `tensorrt-cu12` in its place 535."
)
"""https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/installing-tensorrt/prerequisites.html"""


def make_builder(trt: ModuleType, logger: Any) -> Any:
    """Return a builder.

    Raises:
        CompileError: When it cannot be started; TensorRT's wants a driver that its CUDA goes with.
    """
    said = len(logger.errors)
    try:
        return trt.Builder(logger)
    except TypeError as error:  # of the bindings, when the library gives none
        raise _not_started(trt, logger.errors[said:]) from error


def make_runtime(trt: ModuleType, logger: Any) -> Any:
    """Return a runtime that loads engines of our own, those of `version_compatible` too: they carry the code that runs them.

    TensorRT runs that code only when it is told that the engine can be trusted.

    Raises:
        CompileError: When it cannot be started; TensorRT's wants a driver that its CUDA goes with.
    """
    said = len(logger.errors)
    runtime = trt.Runtime(logger)
    # Without such a driver the bindings give an object all the same, and only the log tells. The process ends when that object is
    # touched, or freed (seen with TensorRT 11.2): it is neither.
    if logger.errors[said:]:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(runtime))
        raise _not_started(trt, logger.errors[said:])
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True
    return runtime


def _not_started(trt: ModuleType, said: Sequence[str]) -> CompileError:
    reason = f"{trt.__name__} {trt.__version__} cannot be started here: {'; '.join(said) or 'it gave no reason'}"
    return CompileError("engine", reason, DRIVER, value=engine_of(trt))


def make_logger(trt: ModuleType) -> Any:
    """Return a logger that keeps what the builder says: `warnings`, `errors`, `infos`, and `last`, the last error."""

    class Logger(trt.ILogger):
        """Keeps what TensorRT says for the record, instead of printing it."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: list[str] = []
            self.errors: list[str] = []
            self.infos: list[str] = []

        @property
        def last(self) -> str:
            return self.errors[-1] if self.errors else ""

        def log(self, severity: Any, message: str) -> None:
            levels = trt.ILogger.Severity
            if severity in (levels.ERROR, levels.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == levels.WARNING and message not in self.warnings:
                self.warnings.append(message)
            elif severity == levels.INFO:
                self.infos.append(message)

    return Logger()
