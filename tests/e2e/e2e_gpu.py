"""A GPU in tests: CUDA's driver over this process's own memory, and TensorRT's runtime over ONNX Runtime.

What is stood in for is what a machine without a GPU does not have. Everything before it is real: engines are built by the builder, copies
go to and from addresses, and an engine that is asked in the wrong order, with a wrong address or a wrong shape, answers wrongly or refuses.
"""

import ctypes
import enum
import threading
import types

import numpy as np
import tensorrt_rtx

from gpuserve_images.onnx_model.session import Session

STREAM = 7
"""Handle of the only stream."""


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100


class Attribute(enum.Enum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 0
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 1


class Driver(types.ModuleType):
    """`cuda.bindings.driver` with GPUs of given architectures; copies are done when the stream is waited for, as late as they may be."""

    CUresult = Result
    CUdevice_attribute = Attribute
    CUstream_flags = enum.Enum("CUstream_flags", {"CU_STREAM_NON_BLOCKING": 1})

    def __init__(self, *architectures, memory=1 << 30):
        super().__init__("cuda.bindings.driver")
        self.architectures, self.memory = architectures, memory
        self.held, self.queue, self.contexts, self.streams = {}, [], 0, 0
        self.thread = threading.local()  # a context is current in one thread

    @property
    def current(self):
        return getattr(self.thread, "current", None)

    def cuInit(self, flags):  # noqa: N802 - CUDA's own names, here and below
        del flags
        return (Result.CUDA_SUCCESS if self.architectures else Result.CUDA_ERROR_NO_DEVICE,)

    def cuGetErrorString(self, code):  # noqa: N802
        return Result.CUDA_SUCCESS, code.name.lower().replace("_", " ").encode()

    def cuDeviceGetCount(self):  # noqa: N802
        return Result.CUDA_SUCCESS, len(self.architectures)

    def cuDeviceGet(self, number):  # noqa: N802
        return Result.CUDA_SUCCESS, number

    def cuDeviceGetName(self, size, device):  # noqa: N802
        return Result.CUDA_SUCCESS, f"a GPU of {self.architectures[device]}\0".encode().ljust(size)

    def cuDeviceGetAttribute(self, attribute, device):  # noqa: N802
        number = self.architectures[device].removeprefix("sm_")
        return Result.CUDA_SUCCESS, int((number[:-1], number[-1])[attribute.value])

    def cuDevicePrimaryCtxRetain(self, device):  # noqa: N802
        self.contexts += 1
        return Result.CUDA_SUCCESS, device

    def cuDevicePrimaryCtxRelease(self, device):  # noqa: N802
        del device
        self.contexts -= 1
        return (Result.CUDA_SUCCESS,)

    def cuCtxSetCurrent(self, context):  # noqa: N802
        self.thread.current = context
        return (Result.CUDA_SUCCESS,)

    def cuStreamCreate(self, flags):  # noqa: N802
        del flags
        self.streams += 1
        return Result.CUDA_SUCCESS, STREAM

    def cuStreamDestroy(self, stream):  # noqa: N802
        assert stream == STREAM
        self.streams -= 1
        return (Result.CUDA_SUCCESS,)

    def cuMemAlloc(self, size):  # noqa: N802
        if size + sum(map(len, self.held.values())) > self.memory:
            return Result.CUDA_ERROR_OUT_OF_MEMORY, None
        # Not zeros: what was never written must not look like an answer.
        room = ctypes.create_string_buffer(b"\xff" * size, size)
        self.held[ctypes.addressof(room)] = room
        return Result.CUDA_SUCCESS, ctypes.addressof(room)

    def cuMemFree(self, address):  # noqa: N802
        del self.held[address]
        return (Result.CUDA_SUCCESS,)

    def cuMemcpyHtoDAsync(self, target, source, size, stream):  # noqa: N802
        return self._copy(target, source, size, stream, target)

    def cuMemcpyDtoHAsync(self, target, source, size, stream):  # noqa: N802
        return self._copy(target, source, size, stream, source)

    def _copy(self, target, source, size, stream, on_gpu):
        if stream != STREAM or on_gpu not in self.held or size > len(self.held[on_gpu]):
            return (Result.CUDA_ERROR_INVALID_VALUE,)
        self.queue.append(lambda: ctypes.memmove(target, source, size))
        return (Result.CUDA_SUCCESS,)

    def cuStreamSynchronize(self, stream):  # noqa: N802
        assert stream == STREAM
        while self.queue:
            self.queue.pop(0)()
        return (Result.CUDA_SUCCESS,)


TYPES = {
    "FP32": tensorrt_rtx.float32,
    "FP16": tensorrt_rtx.float16,
    "INT64": tensorrt_rtx.int64,
    "INT32": tensorrt_rtx.int32,
    "BOOL": tensorrt_rtx.bool,
}


class Played:
    """An ONNX file that plays an engine, over the memory of a stand-in of CUDA's driver."""

    def __init__(self, driver, model, profiles, strays):
        self.driver, self.profiles, self.strays = driver, profiles, strays
        self.session = Session(model)
        signature = self.session.signature
        self.tensors = {tensor.name: tensor for tensor in (*signature.inputs, *signature.outputs)}
        self.inputs = {tensor.name for tensor in signature.inputs}


class Context:
    """What an engine is asked with."""

    def __init__(self, played):
        self.played, self.shapes, self.addresses = played, {}, {}

    def set_input_shape(self, name, shape):
        smallest, largest = self.played.profiles[name]
        self.shapes[name] = tuple(shape)
        bounds = zip(smallest, shape, largest, strict=False)
        return len(shape) == len(smallest) and all(low <= size <= high for low, size, high in bounds)

    def infer_shapes(self):
        return sorted(self.played.inputs - set(self.shapes))

    def get_tensor_shape(self, name):
        batch = next(iter(self.shapes.values()))[0]
        return self.shapes.get(name) or (batch, *self.played.tensors[name].shape[1:])

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == STREAM
        assert self.played.driver.current is not None
        self.played.driver.queue.append(self.answer)
        return True

    def answer(self):
        given = {name: self.at(name) for name in self.played.inputs}
        for name, array in self.played.session.run(given).items():
            self.at(name)[...] = (array + self.played.strays).astype(array.dtype) if self.played.strays else array

    def at(self, name):
        shape, kind = self.get_tensor_shape(name), self.played.tensors[name].numpy_dtype
        room = (ctypes.c_char * (int(np.prod(shape)) * kind.itemsize)).from_address(self.addresses[name])
        return np.frombuffer(room, kind).reshape(shape)


class Engine:
    """What was deserialised."""

    device_memory_size_v2 = 1 << 20

    def __init__(self, played):
        self.played = played
        self.num_io_tensors = len(played.tensors)

    def get_tensor_name(self, index):
        return list(self.played.tensors)[index]

    def get_tensor_mode(self, name):
        modes = tensorrt_rtx.TensorIOMode
        return modes.INPUT if name in self.played.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name):
        return TYPES[self.played.tensors[name].dtype]

    def is_shape_inference_io(self, name):
        del name
        return False

    def create_execution_context(self):
        return Context(self.played)

    def create_engine_inspector(self):
        return types.SimpleNamespace(get_engine_information=lambda _: '{"Layers": []}')


def runtime(driver, model, *, profiles, strays=0.0, loads=True):
    """Return a class in place of `Runtime`, whose engines answer as an ONNX file does.

    Args:
        driver: The stand-in of CUDA's driver, whose memory they read and write.
        model: The ONNX file.
        profiles: Smallest and largest shape by input.
        strays: What is added to every answer.
        loads: Whether engines can be loaded.
    """
    played = Played(driver, model, profiles, strays)

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, data):
            assert data
            if not loads:
                self.logger.log(tensorrt_rtx.ILogger.Severity.ERROR, "the plan file is of another version")
            return Engine(played) if loads else None

    return Runtime
