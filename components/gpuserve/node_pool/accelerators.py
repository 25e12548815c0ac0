"""The GPUs that gpuserve knows by name: what the nodes call them, and what they can run.

Sources: the node label ``nvidia.com/gpu.product`` is the NVML device name with blanks replaced by ``-`` (GPU feature discovery,
https://github.com/NVIDIA/k8s-device-plugin, ``internal/lm/resource.go``); compute capability from
https://developer.nvidia.com/cuda-gpus; memory from each product's data sheet on nvidia.com (decimal gigabytes, as printed there).
"""

import re
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
    """

    name: str
    product: str | None
    memory_gb: int
    capability: str | None

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
        Accelerator("T4", "Tesla-T4", 16, "7.5"),
        Accelerator("A10", "NVIDIA-A10", 24, "8.6"),
        Accelerator("A10G", "NVIDIA-A10G", 24, "8.6"),
        Accelerator("A40", "NVIDIA-A40", 48, "8.6"),
        Accelerator("A30", "NVIDIA-A30", 24, "8.0"),
        Accelerator("A100-PCIe-40GB", "NVIDIA-A100-PCIE-40GB", 40, "8.0"),
        Accelerator("A100-PCIe-80GB", "NVIDIA-A100-80GB-PCIe", 80, "8.0"),
        Accelerator("A100-SXM4-40GB", "NVIDIA-A100-SXM4-40GB", 40, "8.0"),
        Accelerator("A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB", 80, "8.0"),
        Accelerator("L4", "NVIDIA-L4", 24, "8.9"),
        Accelerator("L40", "NVIDIA-L40", 48, "8.9"),
        Accelerator("L40S", "NVIDIA-L40S", 48, "8.9"),
        Accelerator("H100-PCIe", "NVIDIA-H100-PCIe", 80, "9.0"),
        Accelerator("H100-SXM5-80GB", "NVIDIA-H100-80GB-HBM3", 80, "9.0"),
        Accelerator("H100-NVL", "NVIDIA-H100-NVL", 94, "9.0"),
        Accelerator("H200", "NVIDIA-H200", 141, "9.0"),
        Accelerator("B200", "NVIDIA-B200", 180, "10.0"),
        Accelerator("RTX-PRO-6000", "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 96, "12.0"),
        Accelerator("simulated", None, 0, None),
    )
}
"""Accelerator by name. ``simulated`` is a device plugin without GPUs behind it, as in the embedded cluster."""


_BY_PRODUCT = {accelerator.product: accelerator for accelerator in ACCELERATORS.values() if accelerator.product is not None}

_SHARED = re.compile(r"(.+)-(SHARED|MIG-[0-9a-z.+]+)")
"""What feature discovery adds to the product of a GPU that is shared."""

_MAKERS = {"nvidia", "tesla"}
"""Words before a model's own name."""


def accelerator(name: str) -> Accelerator:
    """Return the accelerator called ``name``, by gpuserve's name or by the product label of its nodes.

    Raises:
        ValueError: When there is none; the message suggests those of the same model, and never another one: engines are compiled for it.
    """
    found = ACCELERATORS.get(name) or _BY_PRODUCT.get(name)
    if found is None:
        raise ValueError(f"is no accelerator that gpuserve knows; {_suggestion(name)}")
    return found


def _suggestion(name: str) -> str:
    shared = _SHARED.fullmatch(name)
    whole = _BY_PRODUCT.get(shared[1]) if shared else None
    if whole is not None:
        return (
            f"write `accelerator: {whole.name}` and `node_selector: {{nvidia.com/gpu.product: {name}}}`: these GPUs are shared"
        )
    meant = _same_model(name)
    if meant:
        return f"did you mean {' or '.join(repr(choice) for choice in meant)}?"
    from difflib import get_close_matches

    # One digit more or less is another GPU, so only words without any are taken for misspelt.
    near = get_close_matches(name.lower(), ACCELERATORS, n=1) if not re.search(r"\d", name) else []
    return f"did you mean {near[0]!r}?" if near else suggestion("", ACCELERATORS)


def _same_model(name: str) -> list[str]:
    """Return the accelerators of the model that ``name`` begins with: those that have the rest of it too, else all."""
    model, *rest = _words(name) or [""]
    family = [gpu for gpu in ACCELERATORS.values() if _words(gpu.name)[0] == model]
    fitting = [gpu for gpu in family if all(any(word.startswith(part) for word in _described(gpu)) for part in rest)]
    return [gpu.name for gpu in fitting or (family if re.search(r"\d", model) else [])]


def _described(gpu: Accelerator) -> list[str]:
    return [*_words(f"{gpu.name}-{gpu.product}"), f"{gpu.memory_gb}gb"]


def _words(name: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in _MAKERS]
