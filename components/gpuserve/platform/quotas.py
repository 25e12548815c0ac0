"""What the pools' quotas must hold (every service at its fewest replicas and while it is updated, a Job that builds), and should."""

from collections.abc import Iterator, Mapping
from math import ceil, isclose

from gpuserve.kubernetes.errors import Problem
from gpuserve.kubernetes.units import Quantity
from gpuserve.node_pool.spec import NodePoolSpec
from gpuserve.platform.sizes import DEFAULTS
from gpuserve.platform.spec import PlatformSpec, ServiceSpec
from gpuserve_images.spec import ModelSpec

_UNITS = {"gpus": " GPUs", "cpu": " processors"}


def quota_holds_the_services(platform: PlatformSpec) -> Iterator[Problem]:
    """Yield the quotas that the services on a pool do not fit into: the API server would refuse pods.

    A quota must hold every service at its fewest replicas, and one pod more where a rollout starts a new one before an old one goes:
    else the first `up` would work, and each later one wait for a pod that is refused.
    """
    for index, pool in enumerate(platform.pools):
        services, surging = _on(pool, platform)
        for name, limit in _limits(pool):
            least = sum(len(service.versions) * service.scale.min * _requested(service, name) for service in services)
            most = least + _largest(surging, name)
            if not _exceeds(most, limit):
                continue
            if _exceeds(least, limit):
                reason = f"is less than the {_said(least, name)} that the services on it need at their fewest replicas"
                otherwise = f"lower scale.min or resources.{name}"
            else:
                reason = f"is less than the {_said(most, name)} of a rollout, which starts a new pod before an old one goes"
                otherwise = (
                    f"write `rollout: in-place` for {', '.join(service.name for service in surging)}, to stop the old one first"
                )
            yield _problem(index, name, limit, reason, f"raise it to at least {_said(most, name)}, or {otherwise}")


def quota_holds_the_most(platform: PlatformSpec) -> Iterator[Problem]:
    """Yield the quotas that the services on a pool do not fit into at their most replicas, and while one is updated then.

    They work: autoscalers stop at the quota, and a rollout waits until one of them takes a pod away. So these are for notes.
    """
    for index, pool in enumerate(platform.pools):
        services, surging = _on(pool, platform)
        for name, limit in _limits(pool):
            full = _full(services, name)
            most = full + _largest(surging, name)
            if not _exceeds(most, limit):
                continue
            waits = "while they fill it, a rollout waits for room until one of them shrinks"
            if _exceeds(full, limit):
                reason = f"is less than the {_said(full, name)} that the services on it may grow to: autoscalers stop there"
                reason += f"; {waits}" if surging else ""
            else:
                reason = f"holds no new pod of a rollout beside the services at their most replicas: {waits}"
            fix = f"raise it to at least {_said(most, name)}, or lower scale.max"
            yield _problem(index, name, limit, reason, fix)


def _on(pool: NodePoolSpec, platform: PlatformSpec) -> tuple[list[ServiceSpec], list[ServiceSpec]]:
    """Return the services on a pool, and those of them whose rollouts start a new pod before an old one goes."""
    services = [service for service in platform.services if service.pool == pool.name]
    return services, [service for service in services if service.rollout == "surge"]


def _full(services: list[ServiceSpec], name: str) -> float:
    return sum(len(service.versions) * service.scale.max * _requested(service, name) for service in services)


def _largest(services: list[ServiceSpec], name: str) -> float:
    return max((_requested(service, name) for service in services), default=0)


def _problem(index: int, name: str, limit: Quantity | int, reason: str, fix: str) -> Problem:
    return Problem(f"pools[{index}].quota.{name}", limit if name == "gpus" else str(limit), reason, fix)


def _limits(pool: NodePoolSpec) -> Iterator[tuple[str, Quantity | int]]:
    """Yield what a pool's quota limits, by the field's name."""
    for name, limit in (("gpus", pool.quota.gpus), ("cpu", pool.quota.cpu), ("memory", pool.quota.memory)):
        if limit is not None:
            yield name, limit


def _exceeds(amount: float, limit: Quantity | int) -> bool:
    # Three times 100m is a little more than 300m to a computer.
    return amount > _number(limit) and not isclose(amount, _number(limit))


def _said(amount: float, name: str) -> str:
    """Return an amount as a quota may say it, rounded up: what a fix names must be enough."""
    if name == "memory":
        mebibytes = _ceil(amount / 2**20)
        return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"
    thousandths = _ceil(amount * 1000)
    return f"{thousandths / 1000 if thousandths % 1000 else thousandths // 1000}{_UNITS[name]}"


def _ceil(amount: float) -> int:
    nearest = round(amount)
    return nearest if isclose(amount, nearest) else ceil(amount)


def _requested(service: ServiceSpec, name: str) -> float:
    return _number(getattr(service.resources, name) or getattr(DEFAULTS, name))


def builds_fit_the_quota(platform: PlatformSpec, models: Mapping[str, ModelSpec]) -> Iterator[Problem]:
    """Yield the quotas that no Job's pod ever fits into; one that others use up is waited for."""
    builder = platform.builder
    if builder.kind != "job":
        return
    for index, pool in enumerate(platform.pools):
        engines = _engines_built_on(pool.name, platform, models)
        if not engines or builder.namespace not in {None, pool.namespace}:
            continue
        gpus = max(builder.gpus_for(engine) for engine in engines)
        asked = {"gpus": gpus, "cpu": builder.cpu, "memory": builder.memory}
        for name, limit in _limits(pool):
            amount = asked[name]
            if _exceeds(_number(amount), limit):
                reason = f"is less than the {amount} that a Job which builds there requests (`builder.{name}`)"
                fix = f"raise it to at least {amount}, lower `builder.{name}`, or name another `builder.pool`"
                yield Problem(f"pools[{index}].quota.{name}", str(limit), reason, fix)


def _engines_built_on(pool: str, platform: PlatformSpec, models: Mapping[str, ModelSpec]) -> set[str]:
    return {
        models[service.model_name].builds[build].engine
        for service in platform.services
        if service.model_name in models and pool == (platform.builder.pool or service.pool)
        for build in (*(version.build for version in service.versions), *service.prebuild)
        if build in models[service.model_name].builds
    }


def _number(amount: Quantity | int) -> float:
    return amount.amount if isinstance(amount, Quantity) else amount
