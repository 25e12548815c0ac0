"""The GPUs of this machine, as NVIDIA's management library (NVML) tells them."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from gpuserve_images.compile.visible import VARIABLE, Choice, choice


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        index: Its number in NVML's list, which is the bus's order.
        name: Product name, such as `NVIDIA A100-SXM4-80GB`.
        uuid: Its identity, such as `GPU-2b5e...`.
        architecture: What engines are compiled for, such as `sm_80`.
        memory: Bytes of memory.
        mig: `enabled`, `disabled`, or `unsupported`; `enabling` and `disabling` until the next reset.
        mig_devices: Number of MIG devices that it is divided into.
        mig_uuids: Their identities, such as `MIG-8f0a...`.
    """

    index: int
    name: str
    uuid: str
    architecture: str
    memory: int
    mig: str
    mig_devices: int = 0
    mig_uuids: tuple[str, ...] = ()

    @property
    def choosing(self) -> str:
        """What chooses this GPU in `CUDA_VISIBLE_DEVICES` whatever CUDA's order is: its UUID, or that of its first MIG device."""
        return self.mig_uuids[0] if self.mig_uuids else self.uuid


@dataclass(frozen=True)
class Gpus:
    """What was found.

    Attributes:
        found: Every GPU of the machine, by index, whether or not this process may use it.
        driver: Version of the driver; empty where there is none.
        cuda: Newest CUDA version that the driver runs, such as `12.8`; empty where there is none.
        problem: Why there are none, or not all: `package`, `library`, `driver`, `permission`, `device`, `hidden` (by
            `CUDA_VISIBLE_DEVICES`) or `unknown`; empty when all is well.
        reason: The problem in words.
        fix: What to do about it.
        choice: What the environment makes of them.
    """

    found: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: str = ""
    problem: str = ""
    reason: str = ""
    fix: str = ""
    choice: Choice = field(default_factory=Choice)

    @property
    def visible(self) -> tuple[Gpu, ...]:
        """The GPUs that CUDA gives to this process, in its order where `choice.certain`, else by index."""
        if self.choice.uuids is None:
            return self.found
        by_uuid = {gpu.uuid: gpu for gpu in self.found}
        return tuple(by_uuid[uuid] for uuid in self.choice.uuids)

    @property
    def told(self) -> str:
        """The GPUs that this process may use in words, or why there are none."""
        named = ", ".join(f"{gpu.name} ({gpu.architecture})" for gpu in self.visible)
        return f"this machine has {named}" if named else self.reason or "this machine has no GPU"


def find_gpus(nvml: ModuleType | None = None, environment: Mapping[str, str] = os.environ) -> Gpus:
    """Look for GPUs; what is missing is part of the answer, never an exception.

    Args:
        nvml: The module `pynvml`, or one of its shape. Default: the installed one.
        environment: Says which of them this process may use (see `compile.visible`). Default: the process's own.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            fix = "pip install 'gpuserve[gpu]'"
            return Gpus(
                problem="package", reason="NVIDIA's management library for Python (nvidia-ml-py) is not installed", fix=fix
            )
    library: Any = nvml
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return _absent(library, error)
    try:
        return _chosen(_look(library), environment)
    except library.NVMLError as error:
        return _absent(library, error)
    finally:
        library.nvmlShutdown()


def _chosen(gpus: Gpus, environment: Mapping[str, str]) -> Gpus:
    """Add what the environment makes of the GPUs; that it hides all of them is a problem."""
    chosen = replace(gpus, choice=choice(gpus.found, environment))
    if not gpus.found or chosen.visible:
        return chosen
    reason = f"{VARIABLE}={environment[VARIABLE]!r} chooses none of this machine's GPUs"
    return replace(chosen, problem="hidden", reason=reason, fix=f"Unset it, or set {VARIABLE}={gpus.found[0].choosing}.")


def _look(nvml: Any) -> Gpus:
    driver, cuda = _text(nvml.nvmlSystemGetDriverVersion()), nvml.nvmlSystemGetCudaDriverVersion()
    version = f"{cuda // 1000}.{cuda % 1000 // 10}"
    found: list[Gpu] = []
    failed: Gpus | None = None
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            found.append(_gpu(nvml, index))
        except nvml.NVMLError as error:
            failed = failed or _absent(nvml, error, f"GPU {index}: ")
    if failed is not None:
        return Gpus(tuple(found), driver, version, failed.problem, failed.reason, failed.fix)
    if not found:
        reason = f"driver {driver} is loaded, but it has no device"
        return Gpus((), driver, version, "device", reason, "Attach a GPU, or give the container one (nvidia.com/gpu).")
    return Gpus(tuple(found), driver, version)


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    mig, devices, uuids = _mig(nvml, handle)
    return Gpu(
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        architecture=f"sm_{major}{minor}",
        memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        mig=mig,
        mig_devices=devices,
        mig_uuids=uuids,
    )


def _mig(nvml: Any, handle: Any) -> tuple[str, int, tuple[str, ...]]:
    """Return the MIG mode, the number of MIG devices, and the UUIDs of those that tell; GPUs without MIG answer "not supported"."""
    try:
        current, pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        return "unsupported", 0, ()
    enabled = nvml.NVML_DEVICE_MIG_ENABLE
    if current != pending:
        return ("enabling" if pending == enabled else "disabling"), 0, ()
    if current != enabled:
        return "disabled", 0, ()
    devices = 0
    uuids: list[str] = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            devices += 1
            uuids.append(_text(nvml.nvmlDeviceGetUUID(device)))
        except nvml.NVMLError:
            continue  # an unused place, or a device that does not tell
    return "enabled", devices, tuple(uuids)


def _absent(nvml: Any, error: Any, where: str = "") -> Gpus:
    """Say what an NVML error means for the user."""
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "library",
            "no NVIDIA driver is installed here (libnvidia-ml.so.1 is absent)",
            "Install the driver, or run the container with NVIDIA's runtime.",
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "driver",
            "the NVIDIA driver is installed, but not loaded",
            "Load it: modprobe nvidia (dmesg says why it does not start).",
        ),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "permission",
            "this user may not talk to the NVIDIA driver",
            "Give the user access to /dev/nvidia*, or run as another one.",
        ),
    }
    problem, reason, fix = known.get(
        error.value, ("unknown", f"the NVIDIA driver answers: {error}", "Run nvidia-smi, which talks to the same driver.")
    )
    return Gpus(problem=problem, reason=f"{where}{reason}", fix=fix)


def _text(value: str | bytes) -> str:
    """Decode what older versions of the library give as bytes."""
    return value.decode() if isinstance(value, bytes) else value
