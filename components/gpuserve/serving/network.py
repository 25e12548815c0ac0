"""How a server is reached: its Service, and who is let in."""

from typing import Any

from gpuserve.serving.pod import runtime_pod
from gpuserve.serving.spec import ServingSpec


def service_spec(spec: ServingSpec, selector: dict[str, str]) -> dict[str, Any]:
    """Return the ports of the runtime under one address."""
    server = runtime_pod(spec)
    ports: list[dict[str, Any]] = [{"name": "http", "port": server.http_port, "targetPort": "http"}]
    if server.grpc_port is not None:
        # Gateways speak HTTP/1.1 to a port that does not say otherwise, and gRPC is HTTP/2 without TLS here.
        ports.append({"name": "grpc", "port": server.grpc_port, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"})
    ports.append({"name": "metrics", "port": server.metrics_port, "targetPort": "metrics"})
    return {"type": "ClusterIP", "selector": dict(selector), "ports": ports}


def network_policy_spec(spec: ServingSpec, selector: dict[str, str]) -> dict[str, Any]:
    """Return a policy that lets clients to the API, monitoring to the metrics, and the server nowhere.

    A baked server needs nothing from the network, not even names. Probes come from the node itself, which network plugins let
    in. A gateway on its node's network has no namespace for the policy to match; name its networks instead.
    """
    server = runtime_pod(spec)
    api = [port for port in (server.http_port, server.grpc_port) if port is not None]
    rules: list[dict[str, Any]] = []
    clients = [_namespace(name) for name in spec.clients] + [{"ipBlock": {"cidr": cidr}} for cidr in spec.client_networks]
    if clients:  # an empty list of peers would let everybody in
        rules.append({"from": clients, "ports": [{"protocol": "TCP", "port": port} for port in api]})
    rules.append({"from": [_namespace(spec.monitoring)], "ports": [{"protocol": "TCP", "port": server.metrics_port}]})
    return {
        "podSelector": {"matchLabels": dict(selector)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": rules,
        "egress": [],
    }


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
