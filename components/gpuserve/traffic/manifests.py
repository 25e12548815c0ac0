"""What a traffic policy becomes: pure functions from its spec to manifests and addresses."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpuserve.kubernetes.metadata import Manifest, labels, manifest
from gpuserve.traffic.gateways import dialect_of
from gpuserve.traffic.gateways.gateway_api import AWAIT_SECONDS, HTTP, HTTPS, redirect
from gpuserve.traffic.spec import TrafficSpec

WAY = ("transport", "split", "mirror", "route")
"""Roles of the objects that lead a request to a server, from the server outwards: each names some before it."""


@dataclass(frozen=True)
class TlsMaterial:
    """A generated certificate's parts, PEM text or Outputs of it."""

    certificate: Any
    key: Any
    ca: Any


def manifests(name: str, spec: TrafficSpec, tls: TlsMaterial | None = None) -> dict[str, Manifest]:
    """Return certificate, Gateway and route objects, in the order in which they must be registered.

    Args:
        name: The policy's name and that of its objects.
        spec: What the user declared.
        tls: The generated certificate. Without it (``gpuserve render``) its Secret and ConfigMap are left out: a private
            key is nothing for a file.
    """
    result: dict[str, Manifest] = {}
    if spec.tls.mode == "generated" and tls is not None:
        result |= _generated(name, spec, tls)
    if spec.tls.mode == "cert-manager":
        result["certificate"] = _certificate(name, spec)
    if spec.gateway.name is None:
        result["gateway"] = _gateway(name, spec)
    result |= dialect_of(spec.gateway).routes(name, spec)
    if spec.tls.redirects:
        result["redirect"] = redirect(name, spec)
    return result


def secret_name(name: str, spec: TrafficSpec) -> str | None:
    """Return the name of the Secret that holds the certificate, or ``None`` without TLS."""
    if spec.tls.mode == "none":
        return None
    return spec.tls.secret or f"{name}-tls"


def ca_name(name: str) -> str:
    """Return the name of the ConfigMap that holds a generated CA, under the key ``ca.crt``."""
    return f"{name}-ca"


def listeners(name: str, spec: TrafficSpec) -> list[dict[str, Any]]:
    """Return the listeners of the policy's own Gateway: http, and https when there is a certificate."""
    found: list[dict[str, Any]] = [
        {"name": HTTP, "protocol": "HTTP", "port": spec.gateway.http_port, "hostname": spec.host},
    ]
    secret = secret_name(name, spec)
    if secret is not None:
        tls = {"mode": "Terminate", "certificateRefs": [{"group": "", "kind": "Secret", "name": secret}]}
        found.append(
            {"name": HTTPS, "protocol": "HTTPS", "port": spec.gateway.https_port, "hostname": spec.host, "tls": tls},
        )
    return [{**listener, "allowedRoutes": {"namespaces": {"from": "Same"}}} for listener in found]


def address_url(gateway: Mapping[str, Any], protocol: str, spec: TrafficSpec) -> str | None:
    """Return the base address of a policy on a live Gateway's listener, without a slash at its end.

    Args:
        gateway: The Gateway with ``spec.listeners`` and ``status.addresses``.
        protocol: ``HTTP`` or ``HTTPS``.
        spec: The policy. Its host picks the listener, and where the Gateway reports no address, stands for it.

    Returns:
        For example ``http://127.0.0.1:8080/models/filetype``, at the port that is exposed; ``None`` when no listener speaks
        ``protocol`` for the host.
    """
    declared: Mapping[str, Any] = gateway.get("spec") or {}
    status: Mapping[str, Any] = gateway.get("status") or {}
    spoken = (listener for listener in declared.get("listeners") or [] if listener["protocol"] == protocol)
    matching = [listener for listener in spoken if _answers_for(listener, spec.host)]
    if not matching:
        return None
    chosen = max(matching, key=partial(_precision, spec.host))
    addresses = [str(address["value"]) for address in status.get("addresses") or [] if address.get("value")]
    address = addresses[0] if addresses else sendable_host(spec.host)
    bracketed = f"[{address}]" if ":" in address else address
    scheme, usual = ("http", 80) if protocol == "HTTP" else ("https", 443)
    port = spec.gateway.reached_at(protocol, int(chosen["port"]))
    return f"{scheme}://{bracketed}{'' if port == usual else f':{port}'}{spec.path.rstrip('/')}"


def service_url(gateway: Mapping[str, Any], spec: TrafficSpec) -> str | None:
    """Return the base address that clients of a policy use, on its live Gateway: the plain one where it answers, else that with TLS.

    Somebody else's Gateway is asked in clear only where it has nothing better.
    """
    clear = spec.gateway.name is None and not spec.tls.redirects
    found = (address_url(gateway, protocol, spec) for protocol in (("HTTP", "HTTPS") if clear else ("HTTPS", "HTTP")))
    return next(filter(None, found), None)


def _answers_for(listener: Mapping[str, Any], host: str) -> bool:
    """Tell whether all of a policy's host is a listener's, as Gateway API matches: a wildcard stands for one label or more."""
    hostname = listener.get("hostname") or ""
    return hostname in ("", host) or (hostname.startswith("*.") and host.endswith(hostname[1:]))


def _precision(host: str, listener: Mapping[str, Any]) -> tuple[bool, int]:
    """Order listeners by what a request prefers: the host itself, then the longest wildcard, then no hostname."""
    hostname = listener.get("hostname") or ""
    return hostname == host, len(hostname)


def sendable_host(host: str) -> str:
    """Return a host name that a client can send: a policy's host, or for ``*.example.com`` one that it stands for."""
    return f"any.{host.removeprefix('*.')}" if host.startswith("*.") else host


def _labels(name: str, spec: TrafficSpec) -> dict[str, str]:
    return labels(name=spec.service, instance=name, component="gateway")


def _gateway(name: str, spec: TrafficSpec) -> Manifest:
    return manifest(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        name,
        namespace=spec.namespace,
        labels=_labels(name, spec),
        annotations={"pulumi.com/waitFor": "condition=Programmed", "pulumi.com/timeoutSeconds": AWAIT_SECONDS},
        spec={"gatewayClassName": spec.gateway.class_name, "listeners": listeners(name, spec)},
    )


def _generated(name: str, spec: TrafficSpec, tls: TlsMaterial) -> dict[str, Manifest]:
    marks = _labels(name, spec)
    secret = manifest(
        "v1",
        "Secret",
        f"{name}-tls",
        namespace=spec.namespace,
        labels=marks,
        type="kubernetes.io/tls",
        stringData={"tls.crt": tls.certificate, "tls.key": tls.key},
    )
    authority = manifest("v1", "ConfigMap", ca_name(name), namespace=spec.namespace, labels=marks, data={"ca.crt": tls.ca})
    return {"tls": secret, "ca": authority}


def _certificate(name: str, spec: TrafficSpec) -> Manifest:
    issuer = {"group": "cert-manager.io", "kind": spec.tls.issuer_kind, "name": spec.tls.issuer}
    return manifest(
        "cert-manager.io/v1",
        "Certificate",
        name,
        namespace=spec.namespace,
        labels=_labels(name, spec),
        annotations={"pulumi.com/waitFor": "condition=Ready", "pulumi.com/timeoutSeconds": "600"},
        spec={"secretName": secret_name(name, spec), "dnsNames": [spec.host], "issuerRef": issuer},
    )
