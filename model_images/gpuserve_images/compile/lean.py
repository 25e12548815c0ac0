"""TensorRT's lean runtime: the code that an engine of `version_compatible` carries, which the builder looks for by name."""

import ctypes
import importlib
from contextlib import suppress
from types import ModuleType

from gpuserve_images.compile.builders import wheel
from gpuserve_images.compile.errors import CompileError

WHEEL = "tensorrt_lean_libs"
"""Package that loads the library when it is imported. The builder's own wheel lacks it:
https://github.com/NVIDIA/TensorRT/blob/main/python/packaging/libs_wheel/CMakeLists.txt"""


def require_lean_runtime(trt: ModuleType) -> None:
    """Load the lean runtime of a builder, so that it finds it.

    Raises:
        CompileError: When it is not installed.
    """
    with suppress(ImportError):  # a system's package has it where every program finds it
        importlib.import_module(WHEEL)
    try:
        ctypes.CDLL(f"libnvinfer_lean.so.{trt.__version__.split('.')[0]}")
    except OSError as error:
        reason = f"needs TensorRT's lean runtime, which such an engine carries: {error}"
        package = wheel("tensorrt-lean-cu{cuda}-libs", trt.__version__)
        raise CompileError(
            "compile.version_compatible", reason, f"Install it: pip install '{package}'", value="True"
        ) from error
