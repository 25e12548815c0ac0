"""Plain Gateway API v1: weights, RequestMirror filter and timeouts of HTTPRoute, as every conformant gateway takes them.

URLRewrite, RequestMirror and timeouts are "extended" features: an implementation without them says so in the HTTPRoute's conditions, on
which `ROUTE_READY` waits. https://gateway-api.sigs.k8s.io/reference/spec/#httproute
"""

import json
from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.metadata import Manifest, labels, manifest
from gpuserve.kubernetes.values import Endpoint

if TYPE_CHECKING:
    from gpuserve.kubernetes.units import Duration, Percent
    from gpuserve.traffic.spec import TrafficSpec

HTTP, HTTPS = "http", "https"
"""Names of the listeners of a policy's own Gateway."""

ROUTE_READY = json.dumps(
    [f'jsonpath={{.status.parents[*].conditions[?(@.type=="{kind}")].status}}=True' for kind in ("Accepted", "ResolvedRefs")],
)
"""``pulumi.com/waitFor`` of an HTTPRoute: its conditions lie under ``status.parents[]``, out of reach of ``condition=``."""

AWAIT_SECONDS = "180"
"""How long Pulumi waits for a gateway: a cloud load balancer takes one to two minutes."""


def lacks(mirror: "Percent | None") -> dict[str, str]:
    """Return what Gateway API cannot say of what is asked: nothing of what a policy offers."""
    del mirror
    return {}


def routes(name: str, spec: "TrafficSpec") -> dict[str, Manifest]:
    """Return the HTTPRoute."""
    rule: dict[str, Any] = {
        "backendRefs": [{**backend(route.to), "weight": route.weight} for route in spec.split],
        "timeouts": {"request": duration(spec.timeout)},
    }
    if spec.mirror is not None:
        mirror = {"backendRef": backend(spec.mirror.to), **share(spec.mirror.percent)}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]
    return {"route": http_route(name, spec, rule)}


def http_route(name: str, spec: "TrafficSpec", rule: dict[str, Any]) -> Manifest:
    """Return an HTTPRoute of one rule for the policy's host and path, on every listener of its Gateway that is to answer.

    Servers know their models by the protocol's own paths alone, so they are sent what follows the policy's path.
    """
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": spec.gateway.name or name}
    if spec.gateway.namespace is not None:
        parent["namespace"] = spec.gateway.namespace
    if spec.tls.redirects:
        parent["sectionName"] = HTTPS
    filters = [*_without_prefix(spec), *rule.get("filters", [])]
    return _route(name, name, spec, parent, {**rule, **({"filters": filters} if filters else {})})


def redirect(name: str, spec: "TrafficSpec") -> Manifest:
    """Return the HTTPRoute that sends requests in clear to the policy's listener with the certificate, at the port that clients know.

    301 is the only permanent status that every conformant gateway has. Clients repeat a POST as a GET after it, or not at all: one that asks
    in clear is to be mended, not served.
    """
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name, "sectionName": HTTP}
    target = {"scheme": "https", "port": spec.gateway.reached_at("HTTPS", spec.gateway.https_port), "statusCode": 301}
    return _route(
        redirect_name(name), name, spec, parent, {"filters": [{"type": "RequestRedirect", "requestRedirect": target}]}
    )


def redirect_name(name: str) -> str:
    """Return the name of the route that redirects, of a policy that has one."""
    return f"{name}-redirect"


def _route(called: str, name: str, spec: "TrafficSpec", parent: dict[str, str], rule: dict[str, Any]) -> Manifest:
    match = {"path": {"type": "PathPrefix", "value": spec.path}}
    return manifest(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        called,
        namespace=spec.namespace,
        labels=labels(name=spec.service, instance=name, component="gateway"),
        annotations={"pulumi.com/waitFor": ROUTE_READY, "pulumi.com/timeoutSeconds": AWAIT_SECONDS},
        spec={"parentRefs": [parent], "hostnames": [spec.host], "rules": [{"matches": [match], **rule}]},
    )


def _without_prefix(spec: "TrafficSpec") -> list[dict[str, Any]]:
    """Return the filter that takes the policy's path off a request, and off its mirrored copy; none for ``/``."""
    if spec.path == "/":
        return []
    return [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]


def backend(endpoint: Endpoint) -> dict[str, Any]:
    """Return the reference to an endpoint's Service."""
    return {"group": "", "kind": "Service", "name": endpoint.service, "port": endpoint.http_port}


def duration(value: "Duration") -> str:
    """Return a duration as Gateway API writes it (GEP-2257: whole numbers of at most five digits)."""
    seconds, milliseconds = divmod(round(value.seconds * 1000), 1000)
    return (f"{seconds}s" if seconds else "") + (f"{milliseconds}ms" if milliseconds else "")


def share(percent: "Percent") -> dict[str, Any]:
    """Return the mirrored share: ``percent`` where it is whole, else ``fraction``."""
    if percent.amount == int(percent.amount):
        return {"percent": int(percent.amount)}
    return {"fraction": {"numerator": round(percent.amount * 1000), "denominator": 100_000}}
