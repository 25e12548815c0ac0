"""The GPUs that gpuserve knows by name: what the nodes call them, and what they can run.

Sources: the node label ``nvidia.com/gpu.product`` is the NVML device name with blanks replaced by ``-`` (GPU feature discovery,
https://github.com/NVIDIA/k8s-device-plugin, ``internal/lm/resource.go``); compute capability from
https://developer.nvidia.com/cuda-gpus; memory from each product's data sheet on nvidia.com (decimal gigabytes, as printed there).
"""

from dataclasses import dataclass

from gpuserve.kubernetes.errors import suggestion


@dataclass(frozen=True)
class Accelerator:
    """A GPU product.

    Attributes:
        name: How a pool's spec calls it.
        product: Value of the node label ``nvidia.com/gpu.product``; ``None`` when simulated.
        memory_gb: Memory of one GPU in gigabytes (10^9 bytes) by its data sheet; 0 when simulated.
        capability: CUDA compute capability, such as ``8.0``; ``None`` when simulated.
        generation: NVIDIA's name of the architecture, such as ``Ampere``.
    """

    name: str
    product: str | None
    memory_gb: int
    capability: str | None
    generation: str

    @property
    def architecture(self) -> str | None:
        """What engines are compiled for, such as ``sm_80``; ``None`` when simulated."""
        return None if self.capability is None else "sm_" + self.capability.replace(".", "")

    @property
    def simulated(self) -> bool:
        """True when no GPU is behind the resource, so that the CPU runtime serves."""
        return self.product is None

    @property
    def kind(self) -> str:
        """What a model is built for: ``gpu``, or ``cpu`` when simulated."""
        return "cpu" if self.simulated else "gpu"


ACCELERATORS: dict[str, Accelerator] = {
    accelerator.name: accelerator
    for accelerator in (
        Accelerator("T4", "Tesla-T4", 16, "7.5", "Turing"),
        Accelerator("A10", "NVIDIA-A10", 24, "8.6", "Ampere"),
        Accelerator("A10G", "NVIDIA-A10G", 24, "8.6", "Ampere"),
        Accelerator("A40", "NVIDIA-A40", 48, "8.6", "Ampere"),
        Accelerator("A30", "NVIDIA-A30", 24, "8.0", "Ampere"),
        Accelerator("A100-PCIe-40GB", "NVIDIA-A100-PCIE-40GB", 40, "8.0", "Ampere"),
        Accelerator("A100-PCIe-80GB", "NVIDIA-A100-80GB-PCIe", 80, "8.0", "Ampere"),
        Accelerator("A100-SXM4-40GB", "NVIDIA-A100-SXM4-40GB", 40, "8.0", "Ampere"),
        Accelerator("A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB", 80, "8.0", "Ampere"),
        Accelerator("L4", "NVIDIA-L4", 24, "8.9", "Ada Lovelace"),
        Accelerator("L40", "NVIDIA-L40", 48, "8.9", "Ada Lovelace"),
        Accelerator("L40S", "NVIDIA-L40S", 48, "8.9", "Ada Lovelace"),
        Accelerator("H100-PCIe", "NVIDIA-H100-PCIe", 80, "9.0", "Hopper"),
        Accelerator("H100-SXM5-80GB", "NVIDIA-H100-80GB-HBM3", 80, "9.0", "Hopper"),
        Accelerator("H100-NVL", "NVIDIA-H100-NVL", 94, "9.0", "Hopper"),
        Accelerator("H200", "NVIDIA-H200", 141, "9.0", "Hopper"),
        Accelerator("B200", "NVIDIA-B200", 180, "10.0", "Blackwell"),
        Accelerator("RTX-PRO-6000", "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 96, "12.0", "Blackwell"),
        Accelerator("simulated", None, 0, None, "none"),
    )
}
"""Accelerator by name. ``simulated`` is a device plugin without GPUs behind it, as in the embedded cluster."""


def accelerator(name: str) -> Accelerator:
    """Return the accelerator called ``name``.

    Raises:
        ValueError: When there is none; the message suggests the nearest name.
    """
    found = ACCELERATORS.get(name)
    if found is None:
        raise ValueError(f"is no accelerator that gpuserve knows; {suggestion(name, ACCELERATORS)}")
    return found
