"""Which GPUs of this machine CUDA gives to this process, and in which order: NVML itself knows nothing of `CUDA_VISIBLE_DEVICES`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuserve_images.compile.gpus import Gpu

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER, BY_BUS = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
"""Numbers are places in NVML's list only when the order is that of the bus; CUDA's own default is the fastest GPU first."""


@dataclass(frozen=True)
class Choice:
    """What the environment says about GPUs.

    Attributes:
        uuids: The GPUs that CUDA gives to this process, in its order; None where the environment leaves it all.
        certain: Whether that order is known: GPUs of several architectures are ordered by a speed that only CUDA knows, unless they are
            named by UUID or the order is that of the bus.
    """

    uuids: tuple[str, ...] | None = None
    certain: bool = True


def choice(gpus: "Sequence[Gpu]", environment: Mapping[str, str]) -> Choice:
    """Read the environment as CUDA does.

    The variable is a list of numbers, or of UUIDs or their beginnings, as its first entry is. An entry that means no GPU, or more than one,
    ends the list; one GPU named twice empties it.
    https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html; what that leaves open is as in PyTorch's
    `torch.cuda`, which reads the variable without CUDA too.

    Args:
        gpus: Every GPU of the machine.
        environment: The process's environment.
    """
    by_bus = environment.get(ORDER) == BY_BUS or len({gpu.architecture for gpu in gpus}) <= 1
    text = environment.get(VARIABLE)
    if text is None:
        return Choice(None, by_bus)
    named = text.startswith(("GPU-", "MIG-"))
    find = _by_uuid if named else _by_number
    uuids: list[str] = []
    entries: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        gpu = find(entry, gpus)
        if gpu is None:
            break
        # Two MIG devices of one GPU are two entries; CUDA takes the first of them only.
        if entry in entries or (gpu.uuid in uuids and not entry.startswith("MIG-")):
            return Choice(())
        entries.append(entry)
        uuids += [] if gpu.uuid in uuids else [gpu.uuid]
    return Choice(tuple(uuids), named or by_bus or not uuids)


def _by_number(entry: str, gpus: "Sequence[Gpu]") -> "Gpu | None":
    number = re.match(r"\+?\d+", entry)
    return next((gpu for gpu in gpus if number and gpu.index == int(number[0])), None)


def _by_uuid(entry: str, gpus: "Sequence[Gpu]") -> "Gpu | None":
    if entry.startswith("MIG-"):
        # Older drivers name a MIG device by its GPU: MIG-<GPU's UUID>/<GPU instance>/<compute instance>.
        fitting = [gpu for gpu in gpus if entry.startswith(f"MIG-{gpu.uuid}/")]
        fitting += [gpu for gpu in gpus for uuid in gpu.mig_uuids if uuid.startswith(entry)]
    else:
        fitting = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None
