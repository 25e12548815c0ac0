"""How big a replica is: what a service says, and the defaults of `ServingSpec` for the rest."""

from gpuserve.kubernetes.spec import plain
from gpuserve.platform.spec import ServiceSpec
from gpuserve.serving.spec import ServerResources

DEFAULTS = ServerResources()
"""What a replica gets of what its service does not name."""


def server_resources(service: ServiceSpec) -> ServerResources:
    """Return what one replica of a service gets beside its GPUs."""
    return ServerResources.parse(plain(service.resources.model_dump(include={"cpu", "memory"}, exclude_none=True)))
