"""A build's wishes on a builder's configuration: set where the builder has them, refused by name where not."""

import warnings
from types import ModuleType
from typing import Any

from gpuserve_images.compile.builders import engine_of
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.spec import CompileSpec, lacking

HARDWARE = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
TACTICS = {"edge-mask-convolutions": "EDGE_MASK_CONVOLUTIONS", "jit-convolutions": "JIT_CONVOLUTIONS"}

WORKSPACE_LIMIT = 2**63 - 1
"""Largest size that the builder takes, in bytes."""


def apply(trt: ModuleType, config: Any, options: CompileSpec, logger: Any) -> None:
    """Set the options of a build on a builder's configuration; the timing cache is set by `compile.timing`.

    Args:
        trt: The builder.
        config: Its configuration.
        options: `compile:` of the build.
        logger: The builder's logger; what it says while an option is set decides whether the builder has that option.

    Raises:
        CompileError: When the builder lacks an option, or refuses its value.
    """
    for option, reason in lacking(engine_of(trt), options).items():
        raise _refused(trt, option, options, reason)
    _workspace(trt, config, options)
    for option, value in options.chosen().items():
        setter = _SETTERS.get(option)
        if setter is None:
            continue
        said = len(logger.errors), len(logger.warnings)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                setter(trt, config, value)
        except (AttributeError, DeprecationWarning, ValueError) as error:
            raise _refused(trt, option, options, f"does not offer it: {error}") from error
        complaints = [*logger.errors[said[0] :], *(text for text in logger.warnings[said[1] :] if "unsupported" in text)]
        if complaints:
            raise _refused(trt, option, options, f"does not take it: {'; '.join(complaints)}")


def _workspace(trt: ModuleType, config: Any, options: CompileSpec) -> None:
    if not 0 < options.workspace.amount <= WORKSPACE_LIMIT:
        reason = "is no size of memory that a builder takes"
        raise CompileError("compile.workspace", reason, "Write for example 1Gi.", value=str(options.workspace))
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace.amount))


def _refused(trt: ModuleType, option: str, options: CompileSpec, reason: str) -> CompileError:
    value = str(getattr(options, option))
    return CompileError(f"compile.{option}", f"{trt.__name__} {trt.__version__} {reason}", f"Remove `{option}:`.", value=value)


def _level(trt: ModuleType, config: Any, value: int) -> None:
    del trt
    config.builder_optimization_level = value


def _tf32(trt: ModuleType, config: Any, value: bool) -> None:
    del value  # false: it is on without being asked
    config.clear_flag(trt.BuilderFlag.TF32)


def _version_compatible(trt: ModuleType, config: Any, value: bool) -> None:
    del value
    config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def _hardware(trt: ModuleType, config: Any, value: str) -> None:
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, HARDWARE[value])


def _tactics(trt: ModuleType, config: Any, value: tuple[str, ...]) -> None:
    sources = sum(1 << int(getattr(trt.TacticSource, TACTICS[name])) for name in value)
    if not config.set_tactic_sources(sources):
        msg = f"refuses {list(value)}"
        raise ValueError(msg)


def _refit(trt: ModuleType, config: Any, value: bool) -> None:
    del value
    config.set_flag(trt.BuilderFlag.REFIT)


_SETTERS: dict[str, Any] = {
    "optimisation_level": _level,
    "tf32": _tf32,
    "version_compatible": _version_compatible,
    "hardware_compatibility": _hardware,
    "tactic_sources": _tactics,
    "refit": _refit,
}
