"""Which GPU runs which engine, and which server loads it, known before anything is built or started."""

import re
from collections.abc import Sequence

from gpuserve_images.compile.spec import RTX_ARCHITECTURES, CompileSpec

AMPERE = 80
"""Compute capability 8.0, times ten: the first that `ampere-plus` engines run on."""


def runs_on(built: str, gpu: str, options: CompileSpec) -> bool:
    """Return whether an engine built for one architecture runs on a GPU of another.

    Only on its own, unless the build asks for hardware compatibility: `ampere-plus` engines run on every GPU from Ampere on, and
    `same-compute-capability` ones on every model of their architecture (which others do too, less surely: TensorRT warns).
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html#hardware-compatibility

    Args:
        built: Architecture of the engine, such as `sm_80`.
        gpu: Architecture of the GPU.
        options: `compile:` of the build.
    """
    if built == gpu:
        return True
    both = [int(architecture.removeprefix("sm_")) for architecture in (built, gpu)]
    return options.hardware_compatibility == "ampere-plus" and min(both) >= AMPERE


def loads(server: str, builder: str, options: CompileSpec) -> bool:
    """Return whether a server's TensorRT loads what a builder makes.

    It compares major, minor and patch version; `version_compatible` engines are loaded by every later one.
    https://docs.nvidia.com/deeplearning/tensorrt/11.1.0/inference-library/engine-compatibility.html

    Args:
        server: Version of TensorRT in the server, such as `11.1.0.106`.
        builder: Version of TensorRT that makes the engine.
        options: `compile:` of the build.
    """
    has, made = ([int(part) for part in re.findall(r"\d+", text)[:3]] for text in (server, builder))
    return has == made or (options.version_compatible and has > made)


def fitting(architectures: Sequence[str], gpu: str, options: CompileSpec) -> str | None:
    """Return the architecture whose engine a GPU should run: its own, else one that is compatible; None where there is none."""
    able = [built for built in architectures if runs_on(built, gpu, options)]
    return gpu if gpu in able else next(iter(able), None)


def misfit(engine: str, architectures: Sequence[str], gpu: str | None, options: CompileSpec) -> tuple[str, str] | None:
    """Return why a pool cannot run any of a build's engines, and what to do; None when it can.

    Args:
        engine: `tensorrt` or `tensorrt-rtx`.
        architectures: What the build makes engines for.
        gpu: Architecture of the pool's GPUs; None for a pool of simulated ones.
        options: `compile:` of the build.
    """
    made = ", ".join(architectures)
    if gpu is None:
        return (
            f"makes engines ({made}), and the pool's GPUs are simulated",
            "serve a build with `engine: onnxruntime` there, or choose a pool with real GPUs",
        )
    if fitting(architectures, gpu, options) is None:
        fix = f"add {gpu} to the build's `architectures`"
        if engine == "tensorrt-rtx" and gpu not in RTX_ARCHITECTURES:
            fix = f"serve a build with `engine: tensorrt` and `architectures: [{gpu}]`: TensorRT for RTX makes none for it"
        return f"makes engines for {made}, and the pool's GPUs are {gpu}", fix
    return None
