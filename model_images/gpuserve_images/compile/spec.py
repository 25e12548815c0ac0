"""What may be said about engines."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import WHOLE, Bytes

ARCHITECTURE = re.compile(r"sm_\d{2,3}")
"""A compute capability without its dot, as NVIDIA's compilers write it."""


def _architecture(value: str) -> str:
    if not ARCHITECTURE.fullmatch(value):
        msg = "is not a GPU architecture; write its compute capability without the dot, for example 'sm_80'"
        raise ValueError(msg)
    return value


Architecture = Annotated[str, AfterValidator(_architecture)]
"""A CUDA architecture such as ``sm_80``: the compute capability 8.0 without its dot."""

Engine = Literal["onnxruntime", "tensorrt", "tensorrt-rtx", "native"]

COMPILED = ("tensorrt", "tensorrt-rtx")
"""Engines that are compiled for a GPU architecture."""

RTX_ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
"""What TensorRT for RTX 1.7 makes engines for, as its module lists them: no Hopper, and of Blackwell no data centre GPU."""

Dimension = Annotated[int, Field(ge=-1, le=2**31 - 1, strict=True), WHOLE]
Shape = Annotated[tuple[Dimension, ...], Field(min_length=1)]


class ProfileSpec(Spec):
    """Shapes of one input that an engine accepts, whole, the batch axis included; -1 there means: as `batch:` says.

    Attributes:
        min: Smallest shape.
        opt: Shape that the engine is tuned for.
        max: Largest shape; memory is planned for it.
    """

    min: Shape
    opt: Shape
    max: Shape

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not len(self.min) == len(self.opt) == len(self.max):
            msg = f"has shapes of {len(self.min)}, {len(self.opt)} and {len(self.max)} dimensions; give min, opt and max the same number"
            raise ValueError(msg)
        for axis, (small, tuned, large) in enumerate(zip(self.min, self.opt, self.max, strict=True)):
            if 0 in (small, tuned, large):
                msg = f"has a dimension of 0 on axis {axis}; write at least 1"
                raise ValueError(msg)
            if (-1 in (small, tuned, large)) and (axis or {small, tuned, large} != {-1}):
                msg = f"has -1 on axis {axis}; it may stand for the batch axis only, in all of min, opt and max"
                raise ValueError(msg)
            if not small <= tuned <= large:
                msg = f"wants {small} <= {tuned} <= {large} on axis {axis}, which does not hold; order min, opt and max"
                raise ValueError(msg)
        return self


HardwareCompatibility = Literal["none", "ampere-plus", "same-compute-capability"]
TacticSource = Literal["edge-mask-convolutions", "jit-convolutions"]


class CompileSpec(Spec):
    """How engines are built. What a builder does not offer is refused, with its name and version.

    Attributes:
        workspace: Memory that layers may use while they run. Default 1Gi: TensorRT's samples use it, and every data centre GPU has it free.
        optimisation_level: How long the builder searches, 0 to 5. Default: the builder's own (3).
        timing_cache: Keep measured kernel times and use them in the next build. Default: where the builder has such a cache.
        tf32: Let products of fp32 numbers be rounded to TF32 (10 bits of mantissa instead of 23), on GPUs from Ampere on. Default true, as
            TensorRT's own: FP32 has no tensor cores. Its engines are held to a bar of their own (see `ModelSpec.engine_bars`).
        version_compatible: Let later versions of TensorRT load the engine. Default false: kernels of this version only are quicker.
        hardware_compatibility: GPUs besides the one it is built on that may run the engine. Default `none`.
        tactic_sources: Kernel sources to search. Default: the builder's own.
        refit: Let weights be exchanged without building again (see `gpuserve_images.compile.refit`). Default false: constants cannot be
            folded into kernels then.
    """

    workspace: Bytes = Bytes("1Gi")
    optimisation_level: Annotated[int, Field(ge=0, le=5, strict=True), WHOLE] | None = None
    timing_cache: StrictBool | None = None
    tf32: StrictBool = True
    version_compatible: StrictBool = False
    hardware_compatibility: HardwareCompatibility = "none"
    tactic_sources: tuple[TacticSource, ...] | None = None
    refit: StrictBool = False


LACKS: Mapping[str, Mapping[str, str]] = {
    "tensorrt-rtx": {
        "timing_cache": "has no timing cache: its calls do nothing since version 1.2, kernels are chosen where the engine runs",
        "hardware_compatibility": "has no hardware compatibility; list every GPU in `architectures:` instead",
        "version_compatible": "ships no lean runtime, which such engines carry",
    }
}
"""Engine -> option that its builder has in name only -> why. Found by trying TensorRT for RTX 1.7: the first warns as a deprecated no-op, the
second as unsupported, the third fails at the end of a build for want of `libnvinfer_lean`."""


def lacking(engine: str, options: CompileSpec) -> dict[str, str]:
    """Return the wanted options that the engine's builder does not have, each with the reason."""
    wanted = {name: value for name, value in options.chosen().items() if value is not False}
    return {name: reason for name, reason in LACKS.get(engine, {}).items() if name in wanted}
