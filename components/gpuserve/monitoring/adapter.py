"""From recorded series to the custom metrics API, through prometheus-adapter."""

from typing import Any

from gpuserve.monitoring.series import BATCH, ERRORS, QUEUE, REQUESTS

SCALABLE = (BATCH, ERRORS, QUEUE, REQUESTS)
"""Series with one value per pod; latency has one per quantile, of which a sum would mean nothing."""


def adapter_rules() -> list[dict[str, Any]]:
    """Return the ``rules`` of prometheus-adapter: ``gpuserve:queue_seconds`` becomes the pods metric ``gpuserve_queue_seconds``.

    The embedded cluster's adapter runs with them; elsewhere put them into the Helm chart's ``rules.custom``.
    """
    names = "|".join(name.removeprefix("gpuserve:") for name in SCALABLE)
    rule = {
        "seriesQuery": f'{{__name__=~"^gpuserve:({names})$",namespace!="",pod!=""}}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
        "name": {"matches": "^gpuserve:(.*)$", "as": "gpuserve_$1"},
        "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    }
    return [rule]
