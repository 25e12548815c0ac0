"""From a stack's plan and a cluster to the state of each service."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from gpuserve.cli import readiness
from gpuserve.cli.edits import edits
from gpuserve.cli.readiness import Object, Part
from gpuserve.cli.stack import Stack
from gpuserve.platform.compose import Plan
from gpuserve.platform.outputs import service_facts
from gpuserve.platform.spec import ServiceSpec
from gpuserve.traffic.gateways.gateway_api import redirect_name
from gpuserve.traffic.manifests import ca_name, service_url
from gpuserve.traffic.spec import TrafficSpec

GATEWAY_API = "gateway.networking.k8s.io/v1"


class Reader(Protocol):
    """What this needs of a cluster."""

    def list(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Return the objects of one kind in a namespace."""
        ...

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return one object, or ``None``."""
        ...


CapacityReader = Callable[[str], dict[str, Any] | None]
"""Gives what an image was measured to answer, or ``None`` where nobody knows."""


def services(stack: Stack, cluster: Reader, capacity: CapacityReader = lambda _: None) -> dict[str, dict[str, Any]]:
    """Return each service's address and how to use it, the readiness of its parts, what blocks it and its measured capacity."""
    return {service.name: _service(stack, service, cluster, capacity) for service in stack.environment.platform.services}


def _service(stack: Stack, service: ServiceSpec, cluster: Reader, capacity: CapacityReader) -> dict[str, Any]:
    traffic = stack.plan.traffic[service.name]
    live_gateway = live(cluster, service.name, traffic)
    url = service_url(live_gateway, traffic) if live_gateway else None
    parts = dict(_parts(stack.plan, service, cluster, live_gateway))
    blocked = next((part for part in parts.values() if not part.ready), None)
    return {
        **service_facts(service, stack.environment, url, authority(cluster, service.name, traffic)),
        "ready": blocked is None,
        "parts": {name: _plain(part) for name, part in parts.items()},
        "blocked_by": {"object": blocked.object, "reason": blocked.reason} if blocked else None,
        "capacity": {
            version.build: capacity(stack.plan.serving[service.server(version.build)].image) for version in service.versions
        },
    }


def live(cluster: Reader, name: str, traffic: TrafficSpec) -> Object | None:
    """Return the Gateway that a service is reached through, as it is in the cluster."""
    namespace = traffic.gateway.namespace or traffic.namespace
    return cluster.get(GATEWAY_API, "Gateway", traffic.gateway.name or name, namespace)


def authority(cluster: Reader, name: str, traffic: TrafficSpec) -> str | None:
    """Return the certificate, PEM, of the CA that was made for a service; None without one."""
    if traffic.tls.mode != "generated":
        return None
    found = cluster.get("v1", "ConfigMap", ca_name(name), traffic.namespace)
    return str(found["data"]["ca.crt"]) if found else None


def _parts(plan: Plan, service: ServiceSpec, cluster: Reader, live_gateway: Object | None) -> Iterator[tuple[str, Part]]:
    """Yield the parts in the order in which one needs the other: the first that is not ready is what to look at."""
    traffic = plan.traffic[service.name]
    namespace = traffic.namespace
    yield "pool", _one(cluster.get("v1", "ResourceQuota", service.pool, namespace), "ResourceQuota", service.pool, namespace)
    replica_sets = cluster.list("apps/v1", "ReplicaSet", namespace)
    pods = cluster.list("v1", "Pod", namespace)
    for version in service.versions:
        name = service.server(version.build)
        found = cluster.get("apps/v1", "Deployment", name, namespace)
        if found is None:
            yield f"pods {version.build}", readiness.missing("Deployment", namespace, name)
        else:
            yield f"pods {version.build}", _with_edits(found, readiness.deployment(found, replica_sets, pods))
        slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", namespace, f"kubernetes.io/service-name={name}")
        yield f"endpoints {version.build}", readiness.endpoints(name, namespace, slices)
    yield "gateway", _gateway(live_gateway, service.name, traffic)
    yield "route", _one(cluster.get(GATEWAY_API, "HTTPRoute", service.name, namespace), "HTTPRoute", service.name, namespace)
    if traffic.tls.redirects:
        name = redirect_name(service.name)
        yield "redirect", _one(cluster.get(GATEWAY_API, "HTTPRoute", name, namespace), "HTTPRoute", name, namespace)
    for version in service.versions:
        name = service.server(version.build)
        if name in plan.autoscaling:
            found = cluster.get("autoscaling/v2", "HorizontalPodAutoscaler", name, namespace)
            yield f"autoscaler {version.build}", _one(found, "HorizontalPodAutoscaler", name, namespace)
    for version in service.versions:
        name = service.server(version.build)
        for part, api_version, kind in _GUARDS:
            found = cluster.get(api_version, kind, name, namespace)
            if found is None:
                yield f"{part} {version.build}", readiness.missing(kind, namespace, name)
            elif edits(found):  # one that is as it should be has no state to show
                yield f"{part} {version.build}", _with_edits(found, Part(ready=True, object=readiness.name_of(found)))


_GUARDS = (
    ("network", "networking.k8s.io/v1", "NetworkPolicy"),
    ("disruptions", "policy/v1", "PodDisruptionBudget"),
)
"""What protects a server, and is missed only when it is too late: part, API version and kind."""

_READERS = {
    "ResourceQuota": readiness.quota,
    "HTTPRoute": readiness.route,
    "HorizontalPodAutoscaler": readiness.autoscaler,
}


def _one(found: Object | None, kind: str, name: str, namespace: str) -> Part:
    return readiness.missing(kind, namespace, name) if found is None else _with_edits(found, _READERS[kind](found))


def _with_edits(found: Object, part: Part) -> Part:
    changed = edits(found)
    return replace(part, details={**part.details, "edited": changed}) if changed else part


def _gateway(found: Object | None, service: str, traffic: TrafficSpec) -> Part:
    if found is not None:
        part = readiness.gateway(found)
        return part if traffic.gateway.name else _with_edits(found, part)  # whoever owns a shared one may edit it
    namespace = traffic.gateway.namespace or traffic.namespace
    if traffic.gateway.name is None:
        return readiness.missing("Gateway", namespace, service)
    return readiness.missing("Gateway", namespace, traffic.gateway.name, "does not exist, and the stack attaches to it")


def _plain(part: Part) -> dict[str, Any]:
    return {"ready": part.ready, "object": part.object, "reason": part.reason or None, **part.details}
