"""What must hold between the parts of a policy, before there is a policy: for `TrafficSpec` and for whole stack files."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpuserve.kubernetes.errors import Problem
from gpuserve.traffic.gateways import DIALECTS, TRAEFIK, dialect_of

if TYPE_CHECKING:
    from gpuserve.kubernetes.units import Percent
    from gpuserve.traffic.spec import GatewaySpec, TlsSpec


def problems(*, gateway: "GatewaySpec", tls: "TlsSpec", mirror: "Percent | None") -> Iterator[Problem]:
    """Yield what the gateway cannot do; fields are relative to the policy.

    Args:
        gateway: The policy's gateway.
        tls: Its TLS section.
        mirror: The mirrored share, or ``None`` without a mirror.
    """
    if gateway.name is not None and tls.mode != "none":
        reason = f"needs a listener with a certificate, but Gateway {gateway.name!r} exists and its listeners are its owner's"
        fix = "set up TLS on that Gateway and remove `tls:`, or remove `gateway.name` to get a Gateway of its own"
        yield Problem("tls.mode", tls.mode, reason, fix)
    if gateway.class_name == TRAEFIK and gateway.dialect == "gateway-api":
        reason = f"is not enough for class {TRAEFIK!r}: Traefik answers mirrored requests with 500 in it, and ignores timeouts"
        yield Problem("gateway.dialect", gateway.dialect, reason, "remove it, or write `dialect: traefik`")
    for field, reason in dialect_of(gateway).lacks(mirror).items():
        able = [name for name, dialect in DIALECTS.items() if field not in dialect.lacks(mirror)]
        fix = f"change it, or use a gateway class of dialect {' or '.join(able)}" if able else "change it"
        yield Problem(field, mirror and str(mirror), reason, fix)
