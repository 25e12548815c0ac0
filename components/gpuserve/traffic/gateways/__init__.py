"""One file per gateway dialect: how a policy's split, mirror and timeout are said to one kind of gateway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuserve.traffic.gateways import gateway_api, traefik

if TYPE_CHECKING:
    from gpuserve.kubernetes.metadata import Manifest
    from gpuserve.kubernetes.units import Percent
    from gpuserve.traffic.spec import GatewaySpec, TrafficSpec

TRAEFIK = "traefik"
"""The dialect, and the class, of Traefik."""


@dataclass(frozen=True)
class Dialect:
    """How one kind of gateway is told what a policy says.

    Attributes:
        routes: Pure function: name and spec to the manifests behind the Gateway, the HTTPRoute last.
        lacks: Pure function: the mirrored share to ``{field: why it is refused}`` for what the gateway cannot do.
        one_address: True where all Gateways of a class have the address of the one program that serves them, false where each has its own.
    """

    routes: "Callable[[str, TrafficSpec], dict[str, Manifest]]"
    lacks: "Callable[[Percent | None], Mapping[str, str]]"
    one_address: bool = False


DIALECTS: Mapping[str, Dialect] = {
    "gateway-api": Dialect(gateway_api.routes, gateway_api.lacks),
    TRAEFIK: Dialect(traefik.routes, traefik.lacks, one_address=True),
}


def dialect_of(gateway: "GatewaySpec") -> Dialect:
    """Return the dialect that is named, else what the GatewayClass is called after.

    A class's controller is known to the cluster alone. Of the two mistakes in guessing by its name, plain Gateway API for a Traefik would
    go unseen, and Traefik's objects for another are refused where nobody knows their kinds.
    """
    return DIALECTS[gateway.dialect or (TRAEFIK if TRAEFIK in gateway.class_name else "gateway-api")]
