"""gpuserve: from a model file to a monitored, autoscaled, canaried GPU endpoint on Kubernetes.

The components of a Pulumi program are here by their names: ``from gpuserve import ServingStack``. Each is imported when it is asked for, since
the command and whoever reads a spec need no Pulumi.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuserve.autoscaling.component import GpuAutoscaler
    from gpuserve.monitoring.component import MonitoringStack
    from gpuserve.node_pool.component import GpuNodePool
    from gpuserve.platform.component import Platform
    from gpuserve.serving.component import ServingStack
    from gpuserve.traffic.component import TrafficPolicy
    from gpuserve_images.resource import ModelImage

__all__ = ["GpuAutoscaler", "GpuNodePool", "ModelImage", "MonitoringStack", "Platform", "ServingStack", "TrafficPolicy"]

_HOMES = {
    "GpuAutoscaler": "gpuserve.autoscaling.component",
    "GpuNodePool": "gpuserve.node_pool.component",
    "ModelImage": "gpuserve_images.resource",
    "MonitoringStack": "gpuserve.monitoring.component",
    "Platform": "gpuserve.platform.component",
    "ServingStack": "gpuserve.serving.component",
    "TrafficPolicy": "gpuserve.traffic.component",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
