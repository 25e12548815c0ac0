"""What a stack tells its users about each service."""

import shlex
from typing import Any

import pulumi

from gpuserve.platform.spec import ServiceSpec
from gpuserve.traffic.component import TrafficPolicy
from gpuserve.traffic.spec import TrafficSpec


def service_output(service: ServiceSpec, route: TrafficPolicy, traffic: TrafficSpec) -> pulumi.Output[dict[str, Any]]:
    """Return ``{url, host, model, protocol, versions, example}`` of one service.

    ``url`` is the gateway's base address as the Gateway's own status gives it, so it is known only when the gateway is
    programmed; everything else is known at plan time.
    """
    known: dict[str, Any] = {
        "host": service.traffic.host,
        "model": service.model_name,
        "protocol": traffic.split[0].to.protocol,
        "versions": {version.build: version.weight for version in service.versions},
    }
    return route.url.apply(lambda url: {"url": url, **known, "example": curl_example(url, service)})


def curl_example(url: str, service: ServiceSpec) -> str:
    """Return a curl line that asks the model for its inputs and outputs through the gateway."""
    path = service.traffic.path.rstrip("/")
    address = shlex.quote(f"{url}{path}/v2/models/{service.model_name}")
    return f"curl --fail -H 'Host: {service.traffic.host}' {address}"
