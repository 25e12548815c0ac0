"""A GPU's memory and its queue of work, by CUDA's driver, whose module is passed in."""

import importlib
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from gpuserve_images.compile.errors import CompileError

BINDINGS = "cuda.bindings.driver"
"""NVIDIA's own bindings of the driver. It is asked by name when it is first called, so that they go with drivers of any version."""

NAME_BYTES = 256
"""Room for a GPU's name, which CUDA cuts off behind it; NVML's longest is 96."""


def cuda_driver() -> ModuleType:
    """Return CUDA's driver as a module.

    Raises:
        CompileError: When its bindings are not installed.
    """
    try:
        return importlib.import_module(BINDINGS)
    except ImportError as error:
        reason = f"cannot be run here: NVIDIA's bindings of CUDA are not installed: {error}"
        raise CompileError("engine", reason, "Install them: pip install 'gpuserve[gpu]'") from error


class Device:
    """One GPU, the memory that was taken on it, and one stream, which is CUDA's queue of work."""

    def __init__(self, driver: ModuleType, number: int) -> None:
        """Take the GPU's primary context, which TensorRT uses too.

        Args:
            driver: `cuda.bindings.driver`, or a module of its shape.
            number: The GPU, as CUDA counts those that this process may use.

        Raises:
            CompileError: When CUDA refuses.
        """
        self._driver: Any = driver
        self._place = self._call("cuDeviceGet", number)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._place)
        self.use()
        self._stream = self._call("cuStreamCreate", driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._taken: list[int] = []

    @property
    def name(self) -> str:
        """The GPU's product name."""
        # Up to the zero: the bindings give all of the room, filled with blanks.
        return self._call("cuDeviceGetName", NAME_BYTES, self._place).split(b"\0", 1)[0].decode()

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def use(self) -> None:
        """Make this the GPU of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def take(self, size: int) -> int:
        """Return the address of so many bytes on the GPU."""
        address = int(self._call("cuMemAlloc", size))
        self._taken.append(address)
        return address

    def give_back(self, address: int) -> None:
        """Free what `take` returned."""
        self._taken.remove(address)
        self._call("cuMemFree", address)

    def send(self, array: NDArray[Any], address: int) -> None:
        """Copy a contiguous array to the GPU, after what was asked for before; it must live until `wait`."""
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self._stream)

    def receive(self, address: int, array: NDArray[Any]) -> None:
        """Fill a contiguous array from the GPU, after what was asked for before; it is full after `wait`."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._stream)

    def wait(self) -> None:
        """Wait until everything is done that was asked for.

        Raises:
            CompileError: When any of it failed.
        """
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free everything."""
        self.use()
        for address in list(self._taken):
            self.give_back(address)
        self._call("cuStreamDestroy", self._stream)
        self._call("cuDevicePrimaryCtxRelease", self._place)

    def _call(self, name: str, *arguments: Any) -> Any:
        return call(self._driver, name, *arguments)


def capabilities(driver: ModuleType) -> tuple[str, ...]:
    """Return the architecture of each GPU that CUDA gives to this process, such as `sm_80`, as CUDA counts them.

    Raises:
        CompileError: When there is no driver, or no GPU.
    """
    try:
        call(driver, "cuInit", 0)
    except RuntimeError as error:  # of the bindings, which look for libcuda.so.1 on the first call
        reason = f"cannot be run here: no NVIDIA driver is installed: {' '.join(str(error).split())}"
        raise CompileError("engine", reason, "Run it on a machine with the GPU and its driver.") from error
    wanted = driver.CUdevice_attribute
    found: list[str] = []
    for number in range(call(driver, "cuDeviceGetCount")):
        place = call(driver, "cuDeviceGet", number)
        major = call(driver, "cuDeviceGetAttribute", wanted.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, place)
        minor = call(driver, "cuDeviceGetAttribute", wanted.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, place)
        found.append(f"sm_{major}{minor}")
    return tuple(found)


def call(driver: ModuleType, name: str, *arguments: Any) -> Any:
    """Call the driver and return its answer, if it has one.

    Raises:
        CompileError: With CUDA's own words, when it fails.
    """
    code, *answer = getattr(driver, name)(*arguments)
    if code != driver.CUresult.CUDA_SUCCESS:
        _, words = driver.cuGetErrorString(code)
        reason = f"failed in CUDA's driver: {name}: {code.name}: {(words or b'').decode(errors='replace')}"
        raise CompileError(
            "engine", reason, "Look at the GPU with `nvidia-smi`: its memory may be taken, or its driver too old."
        )
    return answer[0] if answer else None
