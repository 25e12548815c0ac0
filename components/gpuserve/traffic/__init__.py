"""Traffic: which requests reach which version of a service, over Gateway API."""

from gpuserve.traffic.component import TrafficPolicy
from gpuserve.traffic.manifests import manifests
from gpuserve.traffic.spec import GatewaySpec, MirrorSpec, RouteSpec, TlsSpec, TrafficSpec

__all__ = ["GatewaySpec", "MirrorSpec", "RouteSpec", "TlsSpec", "TrafficPolicy", "TrafficSpec", "manifests"]
