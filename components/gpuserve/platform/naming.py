"""Names that the parts of a stack file give to objects of the cluster: each may be given once, and has room for 63 characters."""

from collections.abc import Iterable, Iterator

from gpuserve.kubernetes.errors import Problem
from gpuserve.node_pool.accelerators import accelerator
from gpuserve.platform.spec import PlatformSpec
from gpuserve.serving.manifests import MAX_NAME
from gpuserve.traffic.gateways.gateway_api import redirect_name
from gpuserve.traffic.gateways.traefik import mirror_name


def names_are_free(platform: PlatformSpec) -> Iterator[Problem]:
    """Yield the names that are given twice, or are too long; fields are relative to the platform object."""
    yield from _once(_named("pools", platform), "give each its own name")
    yield from _once(_named("services", platform), "give each its own name")
    spaces = ((f"pools[{index}].namespace", pool.namespace, pool.namespace) for index, pool in enumerate(platform.pools))
    yield from _once(spaces, "give each pool a namespace of its own: quota and labels hold for all of it")
    yield from _once(_nodes(platform), "reserve each node for one pool")
    yield from _once(_servers(platform), "rename the service or the build: both would be one Deployment")
    yield from _once(_images(platform), "rename the build: two images cannot share a name in the plan")
    yield from _once(_routes(platform), "rename the service: a mirror, or a redirect, is an object beside its service's own")
    for field, build, name in _servers(platform):
        if len(name) > MAX_NAME:
            reason = f"makes the Deployment and Service {name!r} of {len(name)} characters, and a name has {MAX_NAME} at most"
            yield Problem(field, build, reason, "shorten the name of the service or of the build")


def _once(named: Iterable[tuple[str, str, str]], fix: str) -> Iterator[Problem]:
    """Yield what gives a name that something before it gave: field, the value there, and the name."""
    first: dict[str, str] = {}
    for field, value, name in named:
        if name in first:
            gives = "is" if value == name else f"gives the name {name!r}, which is"
            yield Problem(field, value, f"{gives} that of {first[name]} too", fix)
        first.setdefault(name, field)


def _named(kind: str, platform: PlatformSpec) -> Iterator[tuple[str, str, str]]:
    for index, item in enumerate(getattr(platform, kind)):
        yield f"{kind}[{index}].name", item.name, item.name


def pools_own_their_namespaces(platform: PlatformSpec) -> Iterator[Problem]:
    """Yield the pools whose namespace is that of Prometheus or of the gateway, which the pool would restrict, and delete with itself."""
    for index, pool in enumerate(platform.pools):
        others = [("monitoring.namespace", "Prometheus runs")] if pool.namespace == platform.monitoring.namespace else []
        if pool.namespace == platform.gateway_namespace and not _makes_gateways_with_pods(pool.name, platform):
            others.append(("gateway_namespace", "the gateway runs"))
        for field, who in others:
            reason = f"is where {who} (`{field}`), and a pool owns its namespace: it restricts all pods there, and deletes it when it goes"
            yield Problem(
                f"pools[{index}].namespace",
                pool.namespace,
                reason,
                "give the pool a namespace of its own, or leave `namespace:` out",
            )


def _makes_gateways_with_pods(pool: str, platform: PlatformSpec) -> bool:
    """Tell whether the pool's namespace has a Gateway whose pods may be beside it; Traefik's are always in Traefik's own namespace."""
    gateways = [service.traffic.gateway for service in platform.services if service.pool == pool]
    return any(gateway.name is None and gateway.class_name != "traefik" for gateway in gateways)


def _nodes(platform: PlatformSpec) -> Iterator[tuple[str, str, str]]:
    for index, pool in enumerate(platform.pools):
        for place, node in enumerate(pool.nodes):
            yield f"pools[{index}].nodes[{place}]", node, node


def _servers(platform: PlatformSpec) -> Iterator[tuple[str, str, str]]:
    for index, service in enumerate(platform.services):
        for place, version in enumerate(service.versions):
            yield f"services[{index}].versions[{place}].build", version.build, service.server(version.build)


def image_name(model: str, build: str, kind: str, architecture: str | None) -> str:
    """Return what an image is called in the plan; `kind` is ``gpu`` or ``cpu``, `architecture` such as ``sm_80``."""
    return f"{model}-{build}-{kind}" + (f"-{architecture.replace('_', '')}" if architecture else "")


def _images(platform: PlatformSpec) -> Iterator[tuple[str, str, str]]:
    """Yield the names of the images, each at the first field that needs it: services may share one."""
    pools, seen = platform.pools_by_name, set[tuple[str, str, str]]()
    for index, service in enumerate(platform.services):
        if service.pool not in pools:
            continue
        gpu = accelerator(pools[service.pool].accelerator)
        builds = [(f"versions[{place}].build", version.build) for place, version in enumerate(service.versions)]
        builds += [(f"prebuild[{place}]", build) for place, build in enumerate(service.prebuild)]
        for field, build in builds:
            name = image_name(service.model_name, build, gpu.kind, gpu.architecture)
            if (service.model_name, build, name) not in seen:
                yield f"services[{index}].{field}", build, name
            seen.add((service.model_name, build, name))


def _routes(platform: PlatformSpec) -> Iterator[tuple[str, str, str]]:
    """Yield the names of the objects that route: a service's own, that of the mirror around its split, and that of its redirect."""
    for index, service in enumerate(platform.services):
        yield f"services[{index}].name", service.name, service.name
    for index, service in enumerate(platform.services):
        if service.traffic.mirror is not None:
            yield f"services[{index}].traffic.mirror.to", service.traffic.mirror.to, mirror_name(service.name)
        if service.traffic.tls.redirects:
            yield f"services[{index}].traffic.tls.mode", service.traffic.tls.mode, redirect_name(service.name)
