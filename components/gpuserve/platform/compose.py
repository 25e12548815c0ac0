"""From one platform object to the specs of every component: the pure heart of `Platform`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gpuserve.autoscaling.spec import AutoscalerSpec
from gpuserve.kubernetes.values import Endpoint, MetricsSource, Placement
from gpuserve.monitoring.spec import MonitoringSpec, SloSpec
from gpuserve.node_pool.manifests import placement
from gpuserve.node_pool.spec import NodePoolSpec
from gpuserve.platform.load import Environment
from gpuserve.platform.naming import image_name
from gpuserve.platform.sizes import server_resources
from gpuserve.platform.spec import PlatformSpec, ServiceSpec
from gpuserve.serving.manifests import endpoint, metrics_source, scale_target
from gpuserve.serving.spec import ServingSpec
from gpuserve.traffic.spec import TrafficSpec
from gpuserve_images.target import Target


@dataclass(frozen=True)
class ImageRequest:
    """One build of one model for one kind of hardware; services that ask for the same share it."""

    model: str
    build: str
    target: Target

    @property
    def name(self) -> str:
        """A readable name, unique in the platform."""
        return image_name(self.model, self.build, self.target.kind, self.target.architecture)


ImageOf = Callable[[ImageRequest], Any]
"""Gives the reference of a request's image: a string, or a Pulumi Output of one."""

CapacityOf = Callable[[ImageRequest], Any]
"""Gives the requests per second that a request's image was measured to answer: a number, or a Pulumi Output of one."""

STAND_IN_CAPACITY = 1.0
"""Takes the place of a measured capacity where a plan is only looked at."""


@dataclass(frozen=True)
class Plan:
    """The specs of every component, by the component's name."""

    pools: dict[str, NodePoolSpec] = field(default_factory=dict[str, NodePoolSpec])
    serving: dict[str, ServingSpec] = field(default_factory=dict[str, ServingSpec])
    traffic: dict[str, TrafficSpec] = field(default_factory=dict[str, TrafficSpec])
    autoscaling: dict[str, AutoscalerSpec] = field(default_factory=dict[str, AutoscalerSpec])
    monitoring: dict[str, MonitoringSpec] = field(default_factory=dict[str, MonitoringSpec])


def image_requests(platform: PlatformSpec) -> list[ImageRequest]:
    """Return every image that the platform's services need, each once."""
    found: dict[ImageRequest, None] = {}
    for service in platform.services:
        for build in (*(version.build for version in service.versions), *service.prebuild):
            found[request(platform, service, build)] = None
    return list(found)


def request(platform: PlatformSpec, service: ServiceSpec, build: str) -> ImageRequest:
    """Return the image that ``build`` of ``service`` needs on its pool's hardware."""
    place = placement(platform.pools_by_name[service.pool])
    return ImageRequest(service.model_name, build, target_of(place))


def scaled_by_capacity(platform: PlatformSpec) -> dict[ImageRequest, str]:
    """Return the images whose measured capacity is an autoscaler's target, each with the first field that makes it so."""
    found: dict[ImageRequest, str] = {}
    for index, service in enumerate(platform.services):
        if service.scale.max > service.scale.min and not service.scale.signals:
            for version in service.versions:
                found.setdefault(request(platform, service, version.build), f"services[{index}].scale")
    return found


def build_placement(platform: PlatformSpec, wanted: ImageRequest) -> Placement:
    """Return where a Job that builds an image runs: on the builder's pool, else on that of the first service that needs the image."""
    named = platform.builder.pool
    if named is not None:
        return placement(platform.pools_by_name[named])
    users = (
        service
        for service in platform.services
        for build in (*(version.build for version in service.versions), *service.prebuild)
        if request(platform, service, build) == wanted
    )
    return placement(platform.pools_by_name[next(users).pool])


def target_of(place: Placement) -> Target:
    """Return what an image for this placement must run on: simulated GPUs are served by the CPU."""
    if place.simulated:
        return Target(kind="cpu")
    return Target(kind="gpu", architecture=place.architecture)


def compose(environment: Environment, image_of: ImageOf, capacity_of: CapacityOf = lambda _: STAND_IN_CAPACITY) -> Plan:
    """Return the specs of every component of ``environment``.

    Args:
        environment: The validated files.
        image_of: Gives images.
        capacity_of: Gives measured capacities; asked only for services that scale without naming a target. Default: a stand-in,
            for plans that are not carried out.
    """
    platform = environment.platform
    plan = Plan(pools={pool.name: pool for pool in platform.pools})
    sources: list[MetricsSource] = []
    for service in platform.services:
        endpoints: dict[str, Endpoint] = {}
        for build, name, serving in _versions(environment, service, image_of):
            plan.serving[name] = serving
            endpoints[build] = endpoint(name, serving)
            sources.append(metrics_source(name, serving))
            if service.scale.max > service.scale.min:
                measured = None if service.scale.signals else capacity_of(request(platform, service, build))
                plan.autoscaling[name] = _autoscaler(name, serving, service, measured)
        plan.traffic[service.name] = _traffic(service, endpoints)
    plan.monitoring["platform"] = _monitoring(environment, sources)
    return plan


def _versions(
    environment: Environment,
    service: ServiceSpec,
    image_of: ImageOf,
) -> Iterator[tuple[str, str, ServingSpec]]:
    platform = environment.platform
    sizes = server_resources(service)
    model = environment.models[service.model_name]
    for version in service.versions:
        spec = ServingSpec(
            service=service.name,
            version=version.build,
            runtime=service.runtime,
            model=model.asked_as,
            image=image_of(request(platform, service, version.build)),
            placement=placement(platform.pools_by_name[service.pool]),
            replicas=service.scale.min,
            autoscaled=service.scale.max > service.scale.min,
            gpus=service.resources.gpus,
            startup_timeout=service.startup_timeout,
            drain=service.drain,
            rollout=service.rollout,
            version_compatible=model.builds[version.build].compile.version_compatible,
            ensemble=model.layout.ensemble is not None,
            clients=tuple(dict.fromkeys((platform.gateway_namespace, *service.clients))),
            client_networks=platform.gateway_networks,
            monitoring=platform.monitoring.namespace,
            discovery=platform.monitoring.discovery,
            resources=sizes,
        )
        yield version.build, service.server(version.build), spec


def _autoscaler(name: str, serving: ServingSpec, service: ServiceSpec, measured: Any) -> AutoscalerSpec:
    return AutoscalerSpec(
        target=scale_target(name, serving),
        min=service.scale.min,
        max=service.scale.max,
        queue_time=service.scale.queue_time,
        qps=service.scale.qps,
        capacity=measured,
        scale_down_window=service.scale.scale_down_window,
    )


def _traffic(service: ServiceSpec, endpoints: dict[str, Endpoint]) -> TrafficSpec:
    traffic = service.traffic
    mirror = {"to": endpoints[traffic.mirror.to], "percent": traffic.mirror.percent} if traffic.mirror else None
    return TrafficSpec.parse(
        {
            "service": service.name,
            "namespace": next(iter(endpoints.values())).namespace,
            "host": traffic.host,
            "path": traffic.path,
            "split": [{"to": endpoints[version.build], "weight": version.weight} for version in service.versions],
            "mirror": mirror,
            "timeout": traffic.timeout,
            "tls": traffic.tls,
            "gateway": traffic.gateway,
        },
    )


def _monitoring(environment: Environment, sources: list[MetricsSource]) -> MonitoringSpec:
    section = environment.platform.monitoring
    slos = [
        SloSpec(
            service=service.name,
            availability=promise.availability,
            latency_p95=promise.latency_p95,
            shadows=tuple(version.build for version in service.versions if version.weight == 0),
        )
        for service in environment.platform.services
        if (promise := environment.models[service.model_name].slo) is not None
    ]
    return MonitoringSpec(
        stack=section.stack or environment.label,
        sources=tuple(sources),
        slos=tuple(slos),
        alerts=section.alerts,
        dashboards=section.dashboards,
        discovery=section.discovery,
        namespace=section.namespace,
        window=section.window,
        labels=section.labels,
    )
