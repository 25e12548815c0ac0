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


WAVE = "argocd.argoproj.io/sync-wave"
OPTIONS = "argocd.argoproj.io/sync-options"
"""Annotations of Argo CD (argo-cd.readthedocs.io/en/stable/user-guide/sync-waves and sync-options)."""

_POOLS, _SERVERS, _ROUTES = range(3)
"""Waves: a Deployment is healthy before the next one begins, so that nothing is sent to a server that is not there yet."""


def render(plan: Plan) -> Iterator[Manifest]:
    """Yield every manifest of ``plan``, in an order in which they can be applied."""
    return (manifest for _, manifest in _in_order(plan))


def render_in_waves(plan: Plan) -> Iterator[Manifest]:
    """Yield the manifests with the annotations by which Argo CD keeps the order that `pulumi up` keeps.

    Servers are ready before a route leads to them, and go when no route does any more: what routes do not need is pruned last.
    """
    for wave, manifest in _in_order(plan):
        metadata = manifest["metadata"]
        # What a patch says stays: a Node is never pruned.
        pruned = {} if wave == _ROUTES else {OPTIONS: "PruneLast=true"}
        annotations = {**pruned, **metadata.get("annotations", {}), WAVE: str(wave)}
        yield {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _in_order(plan: Plan) -> Iterator[tuple[int, Manifest]]:
    for wave, manifests in (
        (_POOLS, _each(plan.pools, pool_manifests)),
        (_SERVERS, _each(plan.serving, serving_manifests)),
        (_ROUTES, _each(plan.traffic, traffic_manifests)),
        (_ROUTES, _each(plan.autoscaling, autoscaling_manifests)),
        (_ROUTES, _each(plan.monitoring, monitoring_manifests)),
    ):
        for manifest in manifests:
            yield wave, manifest


def _each(specs: Mapping[str, _S], manifests: Callable[[str, _S], Mapping[str, Manifest]]) -> Iterator[Manifest]:
    for name, spec in specs.items():
        yield from manifests(name, spec).values()
