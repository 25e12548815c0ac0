"""NVIDIA's management library (`pynvml`) in tests: GPUs of the test's choice."""

import types
from dataclasses import dataclass


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


@dataclass
class Device:
    index: int = 0
    capability: tuple[int, int] = (8, 0)
    mig: tuple[int, int] | None = (0, 0)
    places: tuple[int, ...] = ()
    name: str = "NVIDIA A100-SXM4-80GB"
    silent_mig: bool = False
    broken: int = 0


CODES = {
    "NVML_ERROR_NOT_SUPPORTED": 3,
    "NVML_ERROR_NO_PERMISSION": 4,
    "NVML_ERROR_NOT_FOUND": 6,
    "NVML_ERROR_DRIVER_NOT_LOADED": 9,
    "NVML_ERROR_LIBRARY_NOT_FOUND": 12,
    "NVML_ERROR_GPU_IS_LOST": 15,
    "NVML_DEVICE_MIG_DISABLE": 0,
    "NVML_DEVICE_MIG_ENABLE": 1,
}


def nvml(*devices: Device, start: int = 0) -> types.ModuleType:
    """The part of `pynvml` (nvidia-ml-py 13) that is called, with its names, types and errors."""
    module = types.ModuleType("pynvml")
    module.open = 0

    def refuse(code: int) -> None:
        if code:
            raise NVMLError(code)

    def init() -> None:
        refuse(start)
        module.open += 1

    def shutdown() -> None:
        module.open -= 1

    def handle(index: int) -> Device:
        refuse(devices[index].broken)
        return devices[index]

    def mig_mode(device: Device) -> list[int]:
        refuse(0 if device.mig else CODES["NVML_ERROR_NOT_SUPPORTED"])
        return list(device.mig or ())

    def mig_device(device: Device, index: int) -> str:
        refuse(0 if index in device.places else CODES["NVML_ERROR_NOT_FOUND"])
        return "" if device.silent_mig else f"MIG-{device.index}-{index}"

    def uuid(device: Device | str) -> str | bytes:
        if isinstance(device, str):
            refuse(0 if device else CODES["NVML_ERROR_NOT_SUPPORTED"])
            return device
        return f"GPU-{device.index}".encode()

    calls = {
        "nvmlInit": init,
        "nvmlShutdown": shutdown,
        "nvmlSystemGetDriverVersion": lambda: "570.133.20",
        "nvmlSystemGetCudaDriverVersion": lambda: 12080,
        "nvmlDeviceGetCount": lambda: len(devices),
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetName": lambda device: device.name,
        "nvmlDeviceGetUUID": uuid,
        "nvmlDeviceGetCudaComputeCapability": lambda device: list(device.capability),
        "nvmlDeviceGetMemoryInfo": lambda device: types.SimpleNamespace(total=85_899_345_920, free=0, used=0),
        "nvmlDeviceGetMigMode": mig_mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda device: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": mig_device,
    }
    module.__dict__.update(CODES | calls | {"NVMLError": NVMLError})
    return module
