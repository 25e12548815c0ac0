"""The manifests of a whole environment, without Pulumi: for GitOps, checks and tests."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gpuserve.autoscaling.manifests import manifests as autoscaling_manifests
from gpuserve.kubernetes.metadata import Manifest
from gpuserve.monitoring.manifests import manifests as monitoring_manifests
from gpuserve.node_pool.manifests import manifests as pool_manifests
from gpuserve.platform.compose import Plan
from gpuserve.serving.manifests import manifests as serving_manifests
from gpuserve.traffic.manifests import manifests as traffic_manifests


def render(plan: Plan) -> Iterator[Manifest]:
    """Yield every manifest of ``plan``, in an order in which they can be applied."""
    parts: tuple[tuple[Mapping[str, Any], Callable[[str, Any], Mapping[str, Manifest]]], ...] = (
        (plan.pools, pool_manifests),
        (plan.serving, serving_manifests),
        (plan.traffic, traffic_manifests),
        (plan.autoscaling, autoscaling_manifests),
        (plan.monitoring, monitoring_manifests),
    )
    for specs, manifests in parts:
        for name, spec in specs.items():
            yield from manifests(name, spec).values()
