"""An engine that is run: a model that can be asked like any other, on the GPU that it was built for."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.compile.alone import alone
from gpuserve_images.compile.builders import builder_module
from gpuserve_images.compile.cuda import Device, capabilities, cuda_driver
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus, find_gpus
from gpuserve_images.compile.matching import runs_on
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.compile.starting import make_logger, make_runtime
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.samples.codec import Tensors

ELSEWHERE = "Run it on a machine with that GPU."


def require_runnable(engine: str, architecture: str, options: CompileSpec, gpus: Callable[[], Gpus] = find_gpus) -> None:
    """Check that this machine can run an engine.

    Args:
        engine: `tensorrt` or `tensorrt-rtx`.
        architecture: What it was built for, such as `sm_80`.
        options: How it was built: some engines run on other GPUs too.
        gpus: Looks for GPUs.

    Raises:
        CompileError: When its GPU, its library or CUDA's bindings are not here.
    """
    found = gpus()
    if not any(runs_on(architecture, gpu.architecture, options) for gpu in found.visible):
        raise CompileError("engine", f"cannot be run here: {found.told}", ELSEWHERE, value=architecture)
    builder_module(engine)
    cuda_driver()


class EngineRunner:
    """An engine on its GPU, with one execution context: what one instance of a server has.

    Requests of several threads are answered one after the other.
    """

    def __init__(self, trt: ModuleType, engine: Path, signature: Signature, device: Device) -> None:
        """Load an engine; `loaded` does it with the GPU that it is for.

        Args:
            trt: The module that built it.
            engine: The file.
            signature: The inputs and outputs of its model.
            device: Its GPU.

        Raises:
            CompileError: When it cannot be loaded, or is not the engine of that model.
        """
        self._signature = signature
        self._device = device
        self._trt: Any = trt
        self._file = engine
        self._logger = make_logger(trt)
        self._engine: Any = make_runtime(trt, self._logger).deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise self._unfit("cannot be loaded on this machine")
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise self._unfit("cannot be started on this machine, for want of memory perhaps")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        given = {name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        expected = {tensor.name for tensor in signature.inputs}, {tensor.name for tensor in signature.outputs}
        if (given, set(names) - given) != expected:
            raise self._unfit(f"has the inputs and outputs {', '.join(names)}, and its model others")
        self._buffers: dict[str, tuple[int, int]] = {}

    @property
    def gpu(self) -> str:
        """Name of the GPU that it is on."""
        return self._device.name

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of its model."""
        return self._signature

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in the model's order."""
        return [tensor.name for tensor in self._signature.outputs]

    @alone
    def run(self, inputs: Mapping[str, NDArray[Any]], /) -> Tensors:
        """Return the outputs by name, copied from the GPU.

        Raises:
            CompileError: When inputs are missing, or are not what its profile allows; when the GPU fails; when the sizes of an output follow
                from values, so that nobody knows them before.
        """
        self._device.use()
        self._logger.errors.clear()
        # The GPU reads them until `wait`.
        sent = [self._give(tensor.name, inputs) for tensor in self._signature.inputs]
        if unknown := self._context.infer_shapes():
            raise self._failed(f"needs more to know the sizes of {', '.join(unknown)}")
        answers = {name: self._place(name) for name in self.outputs}
        if not self._context.execute_async_v3(self._device.stream):
            raise self._failed("failed on the GPU")
        for name, array in answers.items():
            self._device.receive(self._buffers[name][0], array)
        self._device.wait()
        del sent
        return answers

    @alone
    def close(self) -> None:
        """Unload the engine; memory that was taken on the GPU goes with the GPU, which is the caller's."""
        self._context = self._engine = None

    def _give(self, name: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        if name not in inputs:
            raise self._failed(f"was asked without its input {name}")
        array = np.ascontiguousarray(inputs[name])
        kind = self._kind(name)
        if array.dtype != kind:
            raise self._failed(f"takes {kind} as {name}, and was given {array.dtype}")
        if not self._context.set_input_shape(name, array.shape):
            raise self._failed(f"takes no {name} of shape {list(array.shape)}")
        if self._engine.is_shape_inference_io(name):
            # Sizes that are inputs: TensorRT reads them on this side.
            address = array.ctypes.data
        else:
            address = self._buffer(name, array.nbytes)
            self._device.send(array, address)
        self._context.set_tensor_address(name, address)
        return array

    def _place(self, name: str) -> NDArray[Any]:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=1) < 0:
            raise self._failed(f"gives {name}, whose sizes {list(shape)} follow from values")
        array = np.empty(shape, dtype=self._kind(name))
        self._context.set_tensor_address(name, self._buffer(name, array.nbytes))
        return array

    def _buffer(self, name: str, size: int) -> int:
        """Return memory of a tensor, which only grows: a request of a batch that was seen takes none."""
        address, room = self._buffers.get(name, (0, 0))
        if size > room or not address:
            if address:
                self._device.give_back(address)
                del self._buffers[name]
            # TensorRT wants an address of an empty tensor too.
            self._buffers[name] = (self._device.take(max(size, 1)), max(size, 1))
        return self._buffers[name][0]

    def _kind(self, name: str) -> np.dtype[Any]:
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))

    def _unfit(self, reason: str) -> CompileError:
        fix = f"Build it again with this version, {self._trt.__name__} {self._trt.__version__}."
        return CompileError(str(self._file), f"{reason}{self._said()}", fix)

    def _failed(self, reason: str) -> CompileError:
        return CompileError(
            str(self._file), f"{reason}{self._said()}", "Compare the request with the build's `profiles` and `batch`."
        )

    def _said(self) -> str:
        return f": {self._logger.last}" if self._logger.last else ""


@contextmanager
def loaded(engine: str, file: Path, architecture: str, options: CompileSpec, signature: Signature) -> Generator[EngineRunner]:
    """Give an engine on its GPU, which is freed afterwards.

    Args:
        engine: `tensorrt` or `tensorrt-rtx`.
        file: The engine.
        architecture: What it was built for, such as `sm_80`.
        options: How it was built.
        signature: The inputs and outputs of its model.

    Raises:
        CompileError: When its GPU, its library or CUDA's bindings are not here, or it cannot be loaded.
    """
    trt, driver = builder_module(engine), cuda_driver()
    there = capabilities(driver)
    able = [number for number, gpu in enumerate(there) if runs_on(architecture, gpu, options)]
    if not able:
        reason = f"cannot be run here: CUDA gives {', '.join(there) or 'no GPU'} to this process"
        raise CompileError("engine", reason, ELSEWHERE, value=architecture)
    # Its own architecture, where there is a choice.
    device = Device(driver, next((number for number in able if there[number] == architecture), able[0]))
    try:
        runner = _load(trt, file, signature, device)
        try:
            yield runner
        finally:
            runner.close()
    finally:
        device.close()


@alone
def _load(trt: ModuleType, file: Path, signature: Signature, device: Device) -> EngineRunner:
    return EngineRunner(trt, file, signature, device)
