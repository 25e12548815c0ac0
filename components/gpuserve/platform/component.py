"""The top of the tree: one resource that holds a whole environment."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pulumi

from gpuserve.autoscaling.component import GpuAutoscaler
from gpuserve.kubernetes.component import Component
from gpuserve.kubernetes.errors import GpuserveError
from gpuserve.kubernetes.names import names_below
from gpuserve.kubernetes.waiting import once_known
from gpuserve.monitoring.component import MonitoringStack
from gpuserve.monitoring.spec import stack_label
from gpuserve.node_pool.component import GpuNodePool
from gpuserve.platform.compose import ImageRequest, Plan, build_placement, compose, image_requests, request, scaled_by_capacity
from gpuserve.platform.load import CONFIG_KEY, Environment, load_environment, stack_file
from gpuserve.platform.outputs import service_facts
from gpuserve.platform.spec import PlatformSpec, ServiceSpec
from gpuserve.serving.component import ServingStack
from gpuserve.traffic.component import TrafficPolicy
from gpuserve_images.resource import ModelImage


class Platform(Component):
    """Everything of one environment.

    Args of the constructor:
        name: Name of the resource; the stack's name is a good choice.
        args: The platform object, as in a stack file.
        folder: Folder of the stack files; model files are looked up in ``models`` below it.
        opts: Options; pass the Kubernetes provider here.
        own_names: Begin the names of all resources below with that of the Platform (``east/filetype-fp32``), for a further Platform in
            the same program, with a provider, pools and hosts of its own. Decide when it is made: to switch it makes all of it anew. A
            renamed one needs its old name among the ``aliases`` of ``opts``. Default: no, and a stack, or its only Platform, can be
            renamed as it is.

    Attributes:
        services: Output: service name -> ``{url, host, model, protocol, versions, example}``.
    """

    def __init__(
        self,
        name: str,
        args: Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
        *,
        folder: Path | str = Path("stacks"),
        own_names: bool = False,
    ) -> None:
        file = stack_file(pulumi.get_stack(), Path(folder))
        environment = _load(args, file)
        if own_names:
            environment = replace(environment, label=stack_label(pulumi.get_stack(), name))
        if not own_names:
            _require_first(name)
        super().__init__("Platform", name, environment.platform, opts)
        self.names = names_below(name, opts) if own_names else self.names
        # Pools come first where they build the images, else last of the two: see `_register`.
        alone = pulumi.ResourceOptions(parent=self)
        building = self._pools(environment.platform, alone) if environment.platform.builder.kind == "job" else {}
        images = self._images(environment, building)
        plan = compose(environment, lambda request: images[request].reference, lambda request: images[request].capacity)
        routes = self._register(environment, plan, self._served(environment, images), building)
        self.services = pulumi.Output.all(
            **{
                service.name: _service_output(service, environment, routes[service.name])
                for service in environment.platform.services
            },
        )
        self.register_outputs({"services": self.services})

    def _pools(self, platform: PlatformSpec, opts: pulumi.ResourceOptions) -> dict[str, GpuNodePool]:
        return {pool.name: GpuNodePool(pool.name, pool, opts) for pool in platform.pools}

    def _images(self, environment: Environment, building: Mapping[str, GpuNodePool]) -> dict[ImageRequest, ModelImage]:
        platform = environment.platform
        scaling = scaled_by_capacity(platform)
        images: dict[ImageRequest, ModelImage] = {}
        for wanted in image_requests(platform):
            place = build_placement(platform, wanted) if building else None
            images[wanted] = ModelImage(
                self.names.of(wanted.name),
                environment.models[wanted.model],
                build=wanted.build,
                folder=environment.folder,
                registry=platform.registry,
                target=wanted.target,
                builder=platform.builder,
                placement=place,
                measured=wanted in scaling,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[building[place.pool]] if place else None,
                    aliases=self.names.aliases(wanted.name),
                ),
            )
        return images

    def _served(self, environment: Environment, images: Mapping[ImageRequest, ModelImage]) -> list[ModelImage]:
        """Return the images that pods will run, without those that are only built ahead."""
        platform = environment.platform
        served = {request(platform, service, version.build) for service in platform.services for version in service.versions}
        return [image for wanted, image in images.items() if wanted in served]

    def _register(
        self, environment: Environment, plan: Plan, images: list[ModelImage], building: Mapping[str, GpuNodePool]
    ) -> dict[str, TrafficPolicy]:
        """Register every component; what lives in a pool's namespace waits for the pool.

        Nothing in the cluster is touched before the images are there: a registry that is down, or a build below its bar, then
        changes nothing. Pools that build the images are there before them, for a Job needs their namespace; only they are.
        """
        first = once_known(*(image.reference for image in images))
        built = pulumi.ResourceOptions(parent=self, depends_on=[first])
        pools = building or self._pools(environment.platform, built)
        by_namespace = {pool.placement.namespace: pool for pool in pools.values()}
        servers: dict[str, ServingStack] = {}

        def after(namespace: str) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(parent=self, depends_on=[by_namespace[namespace], first])

        for stack, serving in plan.serving.items():
            servers[stack] = ServingStack(stack, serving, after(serving.placement.namespace))
        for scaler, autoscaling in plan.autoscaling.items():
            GpuAutoscaler(scaler, autoscaling, pulumi.ResourceOptions(parent=self, depends_on=[servers[scaler]]))
        for stack, monitoring in plan.monitoring.items():
            MonitoringStack(stack, monitoring, built)
        asked = {
            service.name: [servers[service.server(version.build)] for version in service.versions]
            for service in environment.platform.services
        }
        return {
            policy: TrafficPolicy(policy, traffic, after(traffic.namespace), servers=asked[policy])
            for policy, traffic in plan.traffic.items()
        }


def _service_output(service: ServiceSpec, environment: Environment, route: TrafficPolicy) -> pulumi.Output[dict[str, Any]]:
    """Return what a client needs to know.

    ``url`` is the gateway's base address as the Gateway's own status gives it, with the service's path, so it is known only
    when the gateway is programmed; everything else is known at plan time.
    """
    found = pulumi.Output.all(url=route.url, ca=route.ca)
    return found.apply(lambda known: service_facts(service, environment, known["url"], known["ca"]))


def _load(args: Mapping[str, Any], file: Path) -> Environment:
    """Validate the whole environment before anything is registered; the engine shows a `RunError` without a traceback."""
    try:
        return load_environment(args, file=file, path=f"config.{CONFIG_KEY}")
    except GpuserveError as error:
        raise pulumi.RunError(f"{error}") from error


_FIRST: WeakKeyDictionary[object, str] = WeakKeyDictionary()
"""The Platform whose resources have plain names, by the engine's connection: one per run of a program."""


def _require_first(name: str) -> None:
    """Refuse a second Platform with plain names, of which the engine would only say that some name is there twice."""
    first = _FIRST.setdefault(pulumi.runtime.settings.get_monitor(), name)
    if first != name:
        raise pulumi.RunError(
            f"Platform {name!r}: Platform {first!r} is in this program too, and both would give their resources the same names. "
            f"Fix: pass own_names=True to the one that is new, as in Platform({name!r}, ..., own_names=True)"
        )
