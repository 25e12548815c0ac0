"""What an autoscaler becomes: one HorizontalPodAutoscaler on a recorded series of the servers."""

from typing import Any

from gpuserve.autoscaling.spec import API_VERSIONS, AutoscalerSpec
from gpuserve.kubernetes.metadata import Manifest, labels, manifest

QUEUE_METRIC = "gpuserve_queue_seconds"
"""Pods metric: average seconds that a replica's requests waited for a free instance."""

RATE_METRIC = "gpuserve_requests_per_second"
"""Pods metric: requests per second that a replica completed."""


def manifests(name: str, spec: AutoscalerSpec) -> dict[str, Manifest]:
    """Return the HorizontalPodAutoscaler.

    It grows by doubling or by four pods every 15 s, without a window: a queue hurts at once. It shrinks to what was enough all
    through the window. The steps are Kubernetes' own defaults, written out so that a reader sees them.
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
            "metrics": [_metric(spec)],
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


def _metric(spec: AutoscalerSpec) -> dict[str, Any]:
    name, value = (QUEUE_METRIC, spec.queue_time.seconds) if spec.queue_time else (RATE_METRIC, spec.qps or 0.0)
    target = {"type": "AverageValue", "averageValue": quantity(value)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def _behaviour(spec: AutoscalerSpec) -> dict[str, Any]:
    up = [{"type": "Percent", "value": 100, "periodSeconds": 15}, {"type": "Pods", "value": 4, "periodSeconds": 15}]
    down = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": up},
        "scaleDown": {
            "stabilizationWindowSeconds": spec.scale_down_window.whole_seconds,
            "selectPolicy": "Max",
            "policies": down,
        },
    }
