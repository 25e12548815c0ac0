"""Traefik 3: Gateway API for host and path, Traefik's own objects for split, mirror and timeout.

Read in the source of v3.6.10 (pkg/provider/kubernetes/gateway/httproute.go): the RequestMirror filter makes the whole route
answer 500, and ``timeouts`` is ignored without a word. But a backend may be a TraefikService, and those can mirror. Traefik
needs ``--providers.kubernetescrd`` beside ``--providers.kubernetesgateway``, with ``allowemptyservices``: without it one
version that has no ready pod takes the whole service away.

Traefik's retry middleware is left out on purpose: around a mirror, the copy's goroutine writes the flag by which the
middleware decides whether to repeat the request (pkg/middlewares/retry/retry.go), so an answered request may run again.
"""

from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.metadata import Manifest, labels, manifest
from gpuserve.kubernetes.values import Endpoint
from gpuserve.traffic.gateways.gateway_api import duration, http_route

if TYPE_CHECKING:
    from gpuserve.kubernetes.units import Percent
    from gpuserve.traffic.spec import TrafficSpec

GROUP = "traefik.io"
API_VERSION = f"{GROUP}/v1alpha1"

IDLE_CONNECTIONS = 200
"""Idle connections kept per server: Traefik's default transport keeps as many, an own one Go's two if none are named."""


def lacks(mirror: "Percent | None") -> dict[str, str]:
    """Return what Traefik cannot do of what is asked: mirror a share that is not a whole percent."""
    if mirror is not None and mirror.amount != int(mirror.amount):
        return {"mirror.percent": "is not whole, and Traefik mirrors whole percents only"}
    return {}


def routes(name: str, spec: "TrafficSpec") -> dict[str, Manifest]:
    """Return transport, weighted split, mirror around it, and the HTTPRoute that points at the outermost."""
    marks = labels(name=spec.service, instance=name, component="gateway")

    def made(kind: str, called: str, body: dict[str, Any]) -> Manifest:
        return manifest(API_VERSION, kind, called, namespace=spec.namespace, labels=marks, spec=body)

    objects = {
        "transport": made("ServersTransport", name, _transport(spec)),
        "split": made("TraefikService", name, _weighted(name, spec)),
    }
    entrance = name
    if spec.mirror is not None:
        entrance = mirror_name(name)
        body = _mirroring(name, spec.mirror.to, int(spec.mirror.percent.amount))
        objects["mirror"] = made("TraefikService", entrance, body)
    rule = {"backendRefs": [{"group": GROUP, "kind": "TraefikService", "name": entrance}]}
    return {**objects, "route": http_route(name, spec, rule)}


def mirror_name(name: str) -> str:
    """Return the name of the TraefikService around the split of a policy that mirrors."""
    return f"{name}-mirror"


def _transport(spec: "TrafficSpec") -> dict[str, Any]:
    """Bound the wait for the response's first byte, which a model server sends when the inference is done."""
    timeouts = {"responseHeaderTimeout": duration(spec.timeout)}
    return {"forwardingTimeouts": timeouts, "maxIdleConnsPerHost": IDLE_CONNECTIONS}


def _weighted(transport: str, spec: "TrafficSpec") -> dict[str, Any]:
    return {"weighted": {"services": [{**_server(route.to, transport), "weight": route.weight} for route in spec.split]}}


def _mirroring(name: str, to: Endpoint, percent: int) -> dict[str, Any]:
    """Mirror around the split; the mirror's server is written as in the split, for Traefik merges the two by name."""
    mirror = {**_server(to, name), "percent": percent}
    return {"mirroring": {"kind": "TraefikService", "name": name, "mirrors": [mirror]}}


def _server(endpoint: Endpoint, transport: str) -> dict[str, Any]:
    return {"kind": "Service", "name": endpoint.service, "port": endpoint.http_port, "serversTransport": transport}
