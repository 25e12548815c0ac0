"""The manifests of a whole environment, without Pulumi: for GitOps, checks and tests."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from gpuserve.autoscaling.manifests import manifests as autoscaling_manifests
from gpuserve.kubernetes.metadata import Manifest
from gpuserve.kubernetes.spec import Spec
from gpuserve.monitoring.manifests import manifests as monitoring_manifests
from gpuserve.node_pool.manifests import manifests as pool_manifests
from gpuserve.platform.compose import Plan
from gpuserve.serving.manifests import manifests as serving_manifests
from gpuserve.traffic.manifests import manifests as traffic_manifests

_S = TypeVar("_S", bound=Spec)


def render(plan: Plan) -> Iterator[Manifest]:
    """Yield every manifest of ``plan``, in an order in which they can be applied."""
    yield from _each(plan.pools, pool_manifests)
    yield from _each(plan.serving, serving_manifests)
    yield from _each(plan.traffic, traffic_manifests)
    yield from _each(plan.autoscaling, autoscaling_manifests)
    yield from _each(plan.monitoring, monitoring_manifests)


def _each(specs: Mapping[str, _S], manifests: Callable[[str, _S], Mapping[str, Manifest]]) -> Iterator[Manifest]:
    for name, spec in specs.items():
        yield from manifests(name, spec).values()
