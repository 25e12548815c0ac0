"""What must hold between the parts of a stack file; each rule yields every problem it finds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from gpuserve.kubernetes.errors import Problem, SpecError, suggestion
from gpuserve.kubernetes.spec import plain
from gpuserve.platform.engines import engines_fit_the_pool
from gpuserve.platform.hosts import hosts_are_shared_well
from gpuserve.platform.naming import names_are_free, pools_own_their_namespaces
from gpuserve.platform.quotas import builds_fit_the_quota, quota_holds_the_services
from gpuserve.platform.sizes import DEFAULTS
from gpuserve.platform.spec import PlatformSpec, ServiceSpec
from gpuserve.traffic.checks import problems as traffic_problems
from gpuserve_images.builder.spec import require_reachable
from gpuserve_images.spec import BuildSpec, ModelSpec

Models = Mapping[str, ModelSpec]

NO_SUCH_POOL = "no such pool"
NO_SUCH_MODEL = "no such model: there is no file of that name in the models folder"

REPLICAS_IN_PRODUCTION = 2
"""Fewest replicas of a version with which its disruption budget lets a node be drained."""


def problems(platform: PlatformSpec, models: Models) -> Iterator[Problem]:
    """Yield what is wrong between pools, services and models; fields are relative to the platform object."""
    for index, service in enumerate(platform.services):
        for rule in _SERVICE_RULES:
            yield from rule(f"services[{index}]", service, platform, models)
    yield from names_are_free(platform)
    yield from pools_own_their_namespaces(platform)
    yield from hosts_are_shared_well(platform)
    yield from quota_holds_the_services(platform)
    yield from _builder_can_work(platform)
    yield from builds_fit_the_quota(platform, models)


def _pool_exists(at: str, service: ServiceSpec, platform: PlatformSpec, _models: Models) -> Iterator[Problem]:
    if service.pool not in platform.pools_by_name:
        yield Problem(f"{at}.pool", service.pool, NO_SUCH_POOL, suggestion(service.pool, platform.pools_by_name))


def _model_exists(at: str, service: ServiceSpec, _platform: PlatformSpec, models: Models) -> Iterator[Problem]:
    if service.model_name not in models:
        field = f"{at}.model" if service.model else f"{at}.name"
        yield Problem(field, service.model_name, NO_SUCH_MODEL, suggestion(service.model_name, models))


def _builds_exist(at: str, service: ServiceSpec, _platform: PlatformSpec, models: Models) -> Iterator[Problem]:
    model = models.get(service.model_name)
    if model is None:
        return
    named = [(f"{at}.versions[{i}].build", version.build) for i, version in enumerate(service.versions)]
    named += [(f"{at}.prebuild[{i}]", build) for i, build in enumerate(service.prebuild)]
    for field, build in named:
        if build not in model.builds:
            yield Problem(field, build, f"model {service.model_name!r} has no such build", suggestion(build, model.builds))


def _versions_hold_a_server(at: str, service: ServiceSpec, _platform: PlatformSpec, models: Models) -> Iterator[Problem]:
    """Yield the versions whose image no pod can run; made ahead (`prebuild`) they are fine."""
    builds = models[service.model_name].builds if service.model_name in models else {}
    for index, version in enumerate(service.versions):
        wrong = _without_a_server(builds[version.build]) if version.build in builds else None
        if wrong is not None:
            reason, fix = wrong
            yield Problem(
                f"{at}.versions[{index}].build", version.build, reason, f"{fix}, or name this one under `prebuild:` alone"
            )


def _without_a_server(build: BuildSpec) -> tuple[str, str] | None:
    if build.engine == "tensorrt-rtx":
        reason = "makes engines of TensorRT for RTX, which programs of yours load: no server does, and none is in the image"
        return reason, "serve a build with `engine: tensorrt` or `onnxruntime`"
    if build.base == "scratch":
        return "has `base: scratch`: its image is the model alone, without a server", "remove `base:` from the build"
    return None


def _mirror_exists(at: str, service: ServiceSpec, _platform: PlatformSpec, _models: Models) -> Iterator[Problem]:
    mirror = service.traffic.mirror
    versions = [version.build for version in service.versions]
    if mirror is not None and mirror.to not in versions:
        yield Problem(f"{at}.traffic.mirror.to", mirror.to, "is not a version of this service", suggestion(mirror.to, versions))


def _one_scaling_signal(at: str, service: ServiceSpec, _platform: PlatformSpec, models: Models) -> Iterator[Problem]:
    scale = service.scale
    if scale.max == scale.min:
        for name in (*scale.signals, *({"scale_down_window"} & scale.model_fields_set)):
            fix = f"set `max:` above {scale.min}, or remove it"
            yield Problem(
                f"{at}.scale.{name}", plain(getattr(scale, name)), f"would do nothing, for max is min ({scale.min})", fix
            )
        return
    if len(scale.signals) == 1:
        return
    grows = f"scales from {scale.min} to {scale.max}"
    if scale.signals:
        reason = f"{grows} but names {' and '.join(scale.signals)}"
        yield Problem(f"{at}.scale", None, reason, "give exactly one signal, for example `queue_time: 10ms`")
        return
    model = models.get(service.model_name)
    if model is not None and (model.slo is None or model.slo.latency_p95 is None):
        reason = (
            f"{grows} without a target, and model {service.model_name!r} promises no latency that its capacity is measured at"
        )
        fix = "give one, for example `queue_time: 10ms`, or add `slo: {latency_p95: 50ms}` to the model"
        yield Problem(f"{at}.scale", None, reason, fix)


def _gateway_can(at: str, service: ServiceSpec, _platform: PlatformSpec, _models: Models) -> Iterator[Problem]:
    traffic = service.traffic
    mirror = traffic.mirror.percent if traffic.mirror else None
    for problem in traffic_problems(gateway=traffic.gateway, tls=traffic.tls, mirror=mirror):
        yield replace(problem, field=f"{at}.traffic.{problem.field}")


def _server_fits(at: str, service: ServiceSpec, _platform: PlatformSpec, _models: Models) -> Iterator[Problem]:
    memory, shared = service.resources.memory, DEFAULTS.shm
    if memory is not None and memory < shared:
        reason = f"is less than the {shared} of it that a server's /dev/shm may take"
        yield Problem(f"{at}.resources.memory", str(memory), reason, f"raise it to {shared} or more")


def _production_is_ready(at: str, service: ServiceSpec, platform: PlatformSpec, _models: Models) -> Iterator[Problem]:
    """Yield what nobody wants in production: tokens and data in clear, and a service that a node's end stops."""
    if platform.environment != "prod":
        return
    traffic = service.traffic
    if traffic.tls.mode == "none" and traffic.gateway.name is None:
        fix = "say where the certificate comes from, for example `tls: {mode: cert-manager, issuer: letsencrypt}`"
        yield Problem(f"{at}.traffic.tls.mode", "none", "leaves requests in clear, and `environment` is prod", fix)
    elif traffic.tls.plain == "serve":
        fix = "remove it: the plain listener then sends clients to the one with the certificate"
        yield Problem(f"{at}.traffic.tls.plain", "serve", "answers requests in clear too, and `environment` is prod", fix)
    if service.scale.min < REPLICAS_IN_PRODUCTION:
        reason = "leaves nobody to answer while a replica's node is drained or lost, and `environment` is prod"
        yield Problem(f"{at}.scale.min", service.scale.min, reason, f"set it to {REPLICAS_IN_PRODUCTION} or more")


_ServiceRule = Callable[[str, ServiceSpec, PlatformSpec, Models], Iterator[Problem]]
_SERVICE_RULES: tuple[_ServiceRule, ...] = (
    _pool_exists,
    _model_exists,
    _builds_exist,
    _versions_hold_a_server,
    _mirror_exists,
    _one_scaling_signal,
    _gateway_can,
    _server_fits,
    _production_is_ready,
    engines_fit_the_pool,
)


def _builder_can_work(platform: PlatformSpec) -> Iterator[Problem]:
    builder = platform.builder
    if builder.kind != "job":
        return
    if builder.pool is not None and builder.pool not in platform.pools_by_name:
        yield Problem("builder.pool", builder.pool, NO_SUCH_POOL, suggestion(builder.pool, platform.pools_by_name))
    try:
        require_reachable(platform.registry, builder)
    except SpecError as error:
        yield from error.problems
