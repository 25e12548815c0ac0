"""One file per gateway dialect: how a policy's split, mirror and timeout are said to one kind of gateway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuserve.traffic.gateways import gateway_api, traefik

if TYPE_CHECKING:
    from gpuserve.kubernetes.metadata import Manifest
    from gpuserve.kubernetes.units import Percent
    from gpuserve.traffic.spec import TrafficSpec


@dataclass(frozen=True)
class Dialect:
    """How one kind of gateway is told what a policy says.

    Attributes:
        routes: Pure function: name and spec to the manifests behind the Gateway, the HTTPRoute last.
        lacks: Pure function: the mirrored share to ``{field: why it is refused}`` for what the gateway cannot do.
    """

    routes: "Callable[[str, TrafficSpec], dict[str, Manifest]]"
    lacks: "Callable[[Percent | None], Mapping[str, str]]"


DIALECTS: Mapping[str, Dialect] = {
    "gateway-api": Dialect(gateway_api.routes, gateway_api.lacks),
    "traefik": Dialect(traefik.routes, traefik.lacks),
}


def dialect_of(gateway_class: str) -> Dialect:
    """Return the dialect for a GatewayClass; classes that need none of their own speak plain Gateway API."""
    return DIALECTS.get(gateway_class, DIALECTS["gateway-api"])
