"""Hosts that services share: below each path there is one service, a name leads to one address, and shows one certificate."""

from collections.abc import Iterator
from dataclasses import dataclass

from gpuserve.kubernetes.errors import Problem
from gpuserve.platform.spec import PlatformSpec, ServiceTrafficSpec
from gpuserve.traffic.gateways import dialect_of


@dataclass(frozen=True)
class _Way:
    """What decides whether two services are reached by one name.

    Attributes:
        field: What says it, relative to the service's traffic.
        value: What is said there: the class of a Gateway of its own, the name of one that exists.
        made: True for a Gateway of the service's own.
        common: The class whose Gateways all have one address, and this is one of them; ``None`` for others.
        tls: Where its certificate comes from.
    """

    field: str
    value: str
    made: bool
    common: str | None
    tls: str


def hosts_are_shared_well(platform: PlatformSpec) -> Iterator[Problem]:
    """Yield the services that clients of their host could not reach beside another's; fields are relative to the platform object."""
    paths: dict[tuple[str, str], int] = {}
    hosts: dict[str, dict[_Way, int]] = {}
    for index, service in enumerate(platform.services):
        traffic, way = service.traffic, _way(service.traffic)
        at = f"services[{index}].traffic"
        route = (traffic.host, traffic.path)
        if route in paths:
            reason = f"with path {traffic.path!r} is already taken by {_called(platform, paths[route])}"
            yield Problem(f"{at}.host", traffic.host, reason, "use another host or another path")
        paths.setdefault(route, index)
        known = hosts.setdefault(traffic.host, {})
        for other, first in known.items():
            problem = _together(way, other, _called(platform, first), traffic.host)
            if problem is not None:
                field, value, reason, fix = problem
                yield Problem(f"{at}.{field}", value, reason, fix)
                break
        known.setdefault(way, index)


def _called(platform: PlatformSpec, index: int) -> str:
    return f"service {platform.services[index].name!r} (services[{index}])"


def _way(traffic: ServiceTrafficSpec) -> _Way:
    gateway = traffic.gateway
    common = gateway.class_name if dialect_of(gateway).one_address else None
    if gateway.name is None:
        return _Way("gateway.class", gateway.class_name, made=True, common=common, tls=traffic.tls.mode)
    return _Way("gateway.name", gateway.name, made=False, common=common, tls=traffic.tls.mode)


def _together(way: _Way, other: _Way, called: str, host: str) -> tuple[str, str, str, str] | None:
    """Return why one host cannot lead to both, as field, value, reason and fix; ``None`` where it can.

    Where Gateways exist, what is before them is their owners' business.
    """
    attach = "attach both to one Gateway that exists, with `gateway.name`"
    if (way.made or other.made) and (way.common is None or way.common != other.common):
        reason = f"is not where {called} is reached, which has host {host!r} too: each Gateway has its own address, and a name leads to one"
        return way.field, way.value, reason, f"{attach}, or use another host"
    if "generated" in {way.tls, other.tls} and "none" not in {way.tls, other.tls}:
        reason = (
            f"brings a certificate for host {host!r} beside that of {called}, whose mode is {other.tls!r}: "
            "clients are shown one of the two, and a generated one has a CA of its own"
        )
        return (
            "tls.mode",
            way.tls,
            reason,
            f"use mode 'secret' or 'cert-manager' for both, or another host, or {attach} and its own TLS",
        )
    return None
