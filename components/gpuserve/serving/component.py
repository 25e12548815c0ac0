"""One served version as a Pulumi component."""

from collections.abc import Mapping
from typing import Any

import pulumi

from gpuserve.kubernetes.component import Component, refusing
from gpuserve.kubernetes.spec import plain
from gpuserve.kubernetes.values import Endpoint, MetricsSource, ScaleTarget
from gpuserve.serving.manifests import endpoint, manifests, metrics_source, scale_target
from gpuserve.serving.spec import ServingSpec


class ServingStack(Component):
    """One version of a model, served by one runtime: workload, Service, identity, disruption budget, network policy.

    Attributes:
        endpoint: Where its requests go, for a `TrafficPolicy`.
        scale_target: What a `GpuAutoscaler` scales.
        metrics_source: What a `MonitoringStack` watches.

    Example:
        >>> server = ServingStack(
        ...     "filetype-fp32",
        ...     {"service": "filetype", "version": "fp32", "model": "filetype", "image": image.reference, "placement": pool.placement},
        ...     pulumi.ResourceOptions(depends_on=[pool]),
        ... )
    """

    endpoint: Endpoint
    scale_target: ScaleTarget
    metrics_source: MetricsSource

    def __init__(
        self,
        name: str,
        args: ServingSpec | Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare the server.

        Args:
            name: Name of the component and of its objects in the cluster, unique in the namespace.
            args: A `ServingSpec` or a mapping with its fields.
            opts: Pulumi's options; depend on the pool, so that no pod is created before its quota.

        Raises:
            SpecError: When ``args`` is not a valid server; all its problems at once.
        """
        with refusing(name):
            spec = ServingSpec.parse(args)
            objects = manifests(name, spec)
        super().__init__("ServingStack", name, spec, opts)
        self.resources = self.register_children(objects)
        self.endpoint = endpoint(name, spec)
        self.scale_target = scale_target(name, spec)
        self.metrics_source = metrics_source(name, spec)
        self.register_outputs(
            {
                "endpoint": plain(self.endpoint),
                "scale_target": plain(self.scale_target),
                "metrics_source": plain(self.metrics_source),
            }
        )
