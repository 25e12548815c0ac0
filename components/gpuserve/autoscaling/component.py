"""`GpuAutoscaler`, the resource."""

from collections.abc import Mapping
from typing import Any

import pulumi

from gpuserve.autoscaling.manifests import manifests
from gpuserve.autoscaling.spec import AutoscalerSpec
from gpuserve.kubernetes.component import Component, refusing


class GpuAutoscaler(Component):
    """A HorizontalPodAutoscaler on queue time or request rate, as the servers measure them.

    It needs the series of `MonitoringStack` and a prometheus-adapter with `gpuserve.monitoring.adapter.adapter_rules`.

    Attributes:
        resources: The Kubernetes objects by role.
        target: The workload it scales.
    """

    def __init__(
        self,
        name: str,
        args: AutoscalerSpec | Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        with refusing(name):
            spec = AutoscalerSpec.parse(args)
            objects = manifests(name, spec)
        super().__init__("GpuAutoscaler", name, spec, opts)
        self.resources = self.register_children(objects)
        self.target = spec.target
        self.register_outputs({"target": spec.target.name})
