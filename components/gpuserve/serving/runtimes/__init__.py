"""The servers that a serving stack can run, one module each."""

from gpuserve.kubernetes.errors import suggestion
from gpuserve.serving.runtimes.base import Runtime, RuntimePod, RuntimeRequest
from gpuserve.serving.runtimes.triton import Triton

RUNTIMES: dict[str, Runtime] = {known.name: known for known in (Triton(),)}
"""Runtime by name."""


def runtime(name: str) -> Runtime:
    """Return the runtime called ``name``.

    Raises:
        ValueError: When there is none; the message names those that there are.
    """
    found = RUNTIMES.get(name)
    if found is None:
        raise ValueError(f"is no runtime that gpuserve knows; {suggestion(name, RUNTIMES)}")
    return found


__all__ = ["RUNTIMES", "Runtime", "RuntimePod", "RuntimeRequest", "runtime"]
