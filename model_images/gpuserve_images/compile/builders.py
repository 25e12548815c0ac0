"""The builder modules: TensorRT and TensorRT for RTX have one interface, so all code takes the module as an argument."""

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from gpuserve_images.compile.errors import CompileError

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Engine -> module that builds it; the extra of gpuserve that brings the module has the engine's name."""

CUDAS = (13, 12)
"""Major versions of CUDA that builders come for, the newest first, which is what `pip install tensorrt` brings."""

PACKAGES = {engine: (*(f"{engine}-cu{cuda}" for cuda in CUDAS), engine) for engine in MODULES}
"""Engine -> distributions that the module comes in; any one of them is enough. The last only asks for one of the others, and may be of another
version than that."""

ABSENT = "absent"
"""Version of a builder that is not installed."""

OLDEST = 11
"""First TensorRT whose networks are always strongly typed, so that precision is the model's own. TensorRT for RTX counts apart."""


def builder_module(engine: str) -> ModuleType:
    """Return the module that builds an engine: `tensorrt` or `tensorrt-rtx`.

    Raises:
        CompileError: When it is not installed, or too old.
    """
    name = MODULES[engine]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        fix = f"Install it: pip install 'gpuserve[{engine}]'"
        raise CompileError("engine", f"its builder is not installed: {error}", fix, value=engine) from error
    if engine == "tensorrt" and int(module.__version__.split(".")[0]) < OLDEST:
        reason = f"needs TensorRT {OLDEST} or later, whose networks are always strongly typed; found {module.__version__}"
        raise CompileError("engine", reason, "Install it: pip install 'gpuserve[tensorrt]'", value=engine)
    return module


def rtx_module() -> ModuleType:
    """Return TensorRT for RTX.

    Raises:
        CompileError: When it is not installed.
    """
    return builder_module("tensorrt-rtx")


def builder_version(engine: str) -> str:
    """Return the installed version of an engine's builder without loading it; `ABSENT` where there is none."""
    return next(filter(None, map(_version, PACKAGES[engine])), ABSENT)


def builder_cuda(engine: str) -> int | None:
    """Return the major version of CUDA that an installed builder is made for; None where none is installed, or its package does not say."""
    return next((cuda for cuda in CUDAS if _version(f"{engine}-cu{cuda}")), None)


def builds(engine: str) -> bool:
    """Return whether an installed builder has its library too, and not its name and version alone, which are enough to plan."""
    cuda = builder_cuda(engine)
    return builder_version(engine) != ABSENT if cuda is None else bool(_version(f"{engine}-cu{cuda}-libs"))


def wheel(name: str, release: str) -> str:
    """Return what to ask pip for: a release of one of TensorRT's wheels, for the CUDA of the installed builder, else for the newest.

    Args:
        name: Name of the wheel with `{cuda}` for the version of CUDA, such as `tensorrt-cu{cuda}`.
        release: Such as `11.1.0.106`.
    """
    return f"{name.format(cuda=builder_cuda('tensorrt') or CUDAS[0])}=={release}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def engine_of(trt: ModuleType) -> str:
    """Return the engine that a module builds."""
    return next(engine for engine, module in MODULES.items() if module == trt.__name__)


def crosses(trt: ModuleType) -> bool:
    """Return whether a module builds for GPUs that are not here: TensorRT for RTX does, TensorRT builds on the GPU itself."""
    return hasattr(trt, "ComputeCapability")


def architectures(trt: ModuleType) -> tuple[str, ...]:
    """Return the architectures that a builder can make engines for without a GPU; none for one that needs the GPU."""
    if not crosses(trt):
        return ()
    names = (name for name in dir(trt.ComputeCapability) if name.startswith("SM") and name[2:].isdigit())
    return tuple(sorted((f"sm_{name[2:]}" for name in names), key=lambda name: int(name[3:])))
