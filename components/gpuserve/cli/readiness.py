"""Is a service ready, and if not, which one object blocks it: pure functions over what a cluster answered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Object = Mapping[str, Any]

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True)
class Part:
    """One part of a service.

    Attributes:
        ready: Whether it works.
        object: The object that this was read from; where it is not ready, the one that blocks it, as ``Kind namespace/name``.
        reason: Why it is not ready, in the cluster's own words where it has some; empty when it is ready.
        details: Numbers for people and scripts.
    """

    ready: bool
    object: str
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


def name_of(found: Object) -> str:
    """Return ``Kind namespace/name``."""
    metadata = found["metadata"]
    scope = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{found['kind']} {scope}{metadata['name']}"


def missing(kind: str, namespace: str, name: str, why: str = "does not exist; `pulumi up --refresh` makes it") -> Part:
    """Return the part of an object that is not there."""
    return Part(ready=False, object=f"{kind} {namespace}/{name}", reason=why)


def condition(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the condition ``kind`` of a status, or an empty one."""
    conditions: Sequence[Mapping[str, Any]] = found.get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), {})


def quota(found: Object) -> Part:
    """Return a pool's quota; a full one is no fault by itself."""
    status = found.get("status") or {}
    return Part(ready=True, object=name_of(found), details={"used": status.get("used", {}), "hard": status.get("hard", {})})


def deployment(found: Object, replica_sets: Sequence[Object], pods: Sequence[Object]) -> Part:
    """Return a server's pods; behind a Deployment that waits, the pod, quota or rollout it waits for.

    Args:
        found: The Deployment.
        replica_sets: Those of its namespace.
        pods: Those of its namespace.
    """
    spec, status = found.get("spec") or {}, found.get("status") or {}
    wanted, ready = int(spec.get("replicas", 1)), int(status.get("readyReplicas") or 0)
    details = {"replicas": wanted, "ready_replicas": ready}
    current = status.get("observedGeneration") == found["metadata"].get("generation")
    if (
        current
        and ready >= wanted
        and int(status.get("updatedReplicas") or 0) >= wanted
        and not status.get("unavailableReplicas")
    ):
        return Part(ready=True, object=name_of(found), details=details)
    sets = [item for item in replica_sets if _owned(item, found)]
    own = [pod for pod in pods if any(_owned(pod, item) for item in sets)]
    blocker = next(_blockers(found, sets, own), None)
    if blocker is None:
        blocker = Part(ready=False, object=name_of(found), reason=f"{ready} of {wanted} replicas are ready")
    return Part(ready=False, object=blocker.object, reason=blocker.reason, details=details)


def _blockers(found: Object, sets: Sequence[Object], pods: Sequence[Object]) -> Iterator[Part]:
    """Yield what keeps a Deployment from being complete, the deepest cause first."""
    for item in sets:
        failure = condition(item.get("status") or {}, "ReplicaFailure")
        if failure.get("status") == "True":
            yield _refusal(item, str(failure.get("message", "")))
    for pod in pods:
        reason = _pod_reason(pod)
        if reason:
            yield Part(ready=False, object=name_of(pod), reason=reason)
    progressing = condition(found.get("status") or {}, "Progressing")
    if progressing.get("status") == "False":
        yield Part(ready=False, object=name_of(found), reason=str(progressing.get("message", "")))


def _refusal(replica_set: Object, message: str) -> Part:
    """Return who refused a pod: a quota says so by name, else the ReplicaSet that asked is shown."""
    _, marker, rest = message.partition("exceeded quota: ")
    if not marker:
        return Part(ready=False, object=name_of(replica_set), reason=message)
    quota_name = rest.partition(",")[0].strip()
    return Part(ready=False, object=f"ResourceQuota {replica_set['metadata']['namespace']}/{quota_name}", reason=message)


def _pod_reason(pod: Object) -> str:
    """Return why a pod is not ready, or nothing when it is."""
    status = pod.get("status") or {}
    if condition(status, "Ready").get("status") == "True":
        return ""
    scheduled = condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        reason = _container_reason(container)
        if reason:
            return reason
    if pod["metadata"].get("deletionTimestamp"):
        return "is stopping"
    return str(condition(status, "Ready").get("message") or f"is {status.get('phase', 'unknown').lower()}")


def _container_reason(container: Mapping[str, Any]) -> str:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in _IMAGE_REASONS:
        return f"{waiting['reason']}: image {container.get('image')}: {waiting.get('message', '')}"
    last = (container.get("lastState") or {}).get("terminated") or state.get("terminated") or {}
    if last and not container.get("ready"):
        why = f"{last.get('reason', 'ended')} (exit code {last.get('exitCode')})"
        return f"{waiting.get('reason', 'restarting')}: container {container['name']} ended before: {why}"
    return f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ") if waiting.get("reason") else ""


def endpoints(service: str, namespace: str, slices: Sequence[Object]) -> Part:
    """Return whether a Service has a pod behind it that takes requests."""
    ready = sum(
        1 for item in slices for endpoint in item.get("endpoints") or () if (endpoint.get("conditions") or {}).get("ready")
    )
    name = f"Service {namespace}/{service}"
    if ready:
        return Part(ready=True, object=name, details={"endpoints": ready})
    return Part(ready=False, object=name, reason="has no ready endpoint: none of its pods is ready", details={"endpoints": 0})


def gateway(found: Object) -> Part:
    """Return whether a Gateway is programmed."""
    status = found.get("status") or {}
    return _met(found, [status], ("Accepted", "Programmed"), "is a gateway controller running for its class?")


def route(found: Object) -> Part:
    """Return whether a route is accepted by its gateway, with all its backends found."""
    parents: Sequence[Mapping[str, Any]] = (found.get("status") or {}).get("parents") or ()
    if not parents:
        reason = "no gateway has looked at it: is a gateway controller running for its Gateway's class?"
        return Part(ready=False, object=name_of(found), reason=reason)
    return _met(found, parents, ("Accepted", "ResolvedRefs"), "see its status")


def autoscaler(found: Object) -> Part:
    """Return whether an autoscaler sees its metric and may scale; a metric that is ``<unknown>`` is explained."""
    spec, status = found.get("spec") or {}, found.get("status") or {}
    details = {
        "replicas": status.get("currentReplicas", 0),
        "desired": status.get("desiredReplicas", 0),
        "min": spec.get("minReplicas", 1),
        "max": spec.get("maxReplicas"),
        "metrics": [str(value) for value in _metric_values(status)],
    }
    hint = "no series of it yet: it appears after the first requests and a scrape"
    return replace(_met(found, [status], ("AbleToScale", "ScalingActive"), hint), details=details)


def _metric_values(status: Mapping[str, Any]) -> Iterator[str]:
    for metric in status.get("currentMetrics") or ():
        for source in ("pods", "object", "external", "resource"):
            value = (metric.get(source) or {}).get("current") or {}
            if value:
                yield value.get("averageValue") or value.get("value") or "<unknown>"


def _met(found: Object, statuses: Sequence[Mapping[str, Any]], kinds: Sequence[str], hint: str) -> Part:
    """Return whether every condition of these kinds is true in every status; ``hint`` is for one that says nothing itself."""
    for status in statuses:
        for kind in kinds:
            state = condition(status, kind)
            if state.get("status") != "True":
                said = ": ".join(str(state[key]) for key in ("reason", "message") if state.get(key)) or hint
                return Part(ready=False, object=name_of(found), reason=f"is not {kind}: {said}")
    return Part(ready=True, object=name_of(found))


def _owned(found: Object, owner: Object) -> bool:
    references: Sequence[Mapping[str, Any]] = found["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == owner["metadata"].get("uid") for reference in references)
