"""What an autoscaler becomes: one HorizontalPodAutoscaler on a recorded series of the servers."""

from functools import partial
from typing import Any

from gpuserve.autoscaling.spec import API_VERSIONS, MEASURED_ONE, NO_RATE, AutoscalerSpec, is_rate
from gpuserve.kubernetes.capacity import unmeasured
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.metadata import Manifest, labels, manifest
from gpuserve.kubernetes.outputs import is_output

QUEUE_METRIC = "gpuserve_queue_seconds"
"""Pods metric: average seconds that a replica's requests waited for a free instance."""

RATE_METRIC = "gpuserve_requests_per_second"
"""Pods metric: requests per second that a replica completed."""

TARGET_SHARE = 0.8
"""Share of a measured capacity to aim at. At all of it the p95 stands at its bound, and a new replica takes a while to start."""

SYNC = 15
"""Seconds between two looks of Kubernetes' autoscaler."""

LONGEST_PERIOD = 1800
"""Seconds: the API server refuses longer periods of a policy."""


def manifests(name: str, spec: AutoscalerSpec) -> dict[str, Manifest]:
    """Return the HorizontalPodAutoscaler.

    It grows by doubling or by four pods every 15 s, without a window: a queue hurts at once. By a rate of requests it shrinks to what
    was enough all through the window. Those steps are Kubernetes' own defaults, written out so that a reader sees them.

    By a queue it shrinks by a tenth, or by one, per window. Kubernetes takes a metric to be in proportion to the load of a replica. A
    queue is not: it is short up to the load where it is long, so a tenth of the time that is allowed does not say that a tenth of the
    replicas would be enough. Taken at its word, a fleet under steady load would go to its minimum after each window of quiet.
    """
    target = {"apiVersion": API_VERSIONS[spec.target.kind], "kind": spec.target.kind, "name": spec.target.name}
    hpa = manifest(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        name,
        namespace=spec.target.namespace,
        labels=labels(name=spec.target.name, instance=name, component="autoscaler"),
        # Its condition turns true only with the first traffic; nobody should wait for that.
        annotations={"pulumi.com/skipAwait": "true"},
        spec={
            "scaleTargetRef": target,
            "minReplicas": spec.min,
            "maxReplicas": spec.max,
            "metrics": [_metric(name, spec)],
            "behavior": _behaviour(spec),
        },
    )
    return {"hpa": hpa}


def quantity(value: float) -> str:
    """Return ``value`` as a Kubernetes quantity with the resolution of the custom metrics API, a thousandth.

    ``0.01`` becomes ``10m``, ``200`` becomes ``200``.
    """
    thousandths = round(value * 1000)
    return f"{thousandths // 1000}" if thousandths % 1000 == 0 else f"{thousandths}m"


def target_rate(name: str, capacity: float | None) -> str:
    """Return the request rate to aim at as a quantity.

    Args:
        name: The autoscaler's name, for the error.
        capacity: Requests per second that one replica was measured to answer within its SLO.

    Raises:
        SpecError: When nothing was measured, nothing keeps the SLO, or an Output resolved to something else.
    """
    if not capacity:
        raise SpecError([unmeasured(f"{name}: scale target")])
    if not is_rate(capacity):
        # The value itself may be a secret.
        reason = f"resolves to a {type(capacity).__name__} that {NO_RATE}"
        raise SpecError.of(f"{name}: capacity", None, reason, MEASURED_ONE)
    return quantity(max(capacity * TARGET_SHARE, 0.001))


def _metric(name: str, spec: AutoscalerSpec) -> dict[str, Any]:
    metric = QUEUE_METRIC if spec.queue_time else RATE_METRIC
    target = {"type": "AverageValue", "averageValue": _average(name, spec)}
    return {"type": "Pods", "pods": {"metric": {"name": metric}, "target": target}}


def _average(name: str, spec: AutoscalerSpec) -> Any:
    if is_output(spec.capacity):
        return spec.capacity.apply(partial(_or_stop, name))
    if spec.capacity is not None:
        return target_rate(name, spec.capacity)
    return quantity(spec.queue_time.seconds if spec.queue_time else spec.qps or 0.0)


def _or_stop(name: str, capacity: float | None) -> str:
    """Return the rate, or end the program: the engine shows a `RunError` without a traceback."""
    import pulumi

    try:
        return target_rate(name, capacity)
    except SpecError as error:
        raise pulumi.RunError(str(error)) from error


def _behaviour(spec: AutoscalerSpec) -> dict[str, Any]:
    up = [{"type": "Percent", "value": 100, "periodSeconds": SYNC}, {"type": "Pods", "value": 4, "periodSeconds": SYNC}]
    window = spec.scale_down_window.whole_seconds
    if spec.queue_time:
        period = min(max(window, SYNC), LONGEST_PERIOD)
        down = [
            {"type": "Percent", "value": 10, "periodSeconds": period},
            {"type": "Pods", "value": 1, "periodSeconds": period},
        ]
    else:
        down = [{"type": "Percent", "value": 100, "periodSeconds": SYNC}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": up},
        "scaleDown": {
            "stabilizationWindowSeconds": window,
            "selectPolicy": "Max",
            "policies": down,
        },
    }
