"""What an autoscaler becomes, and what it refuses."""

from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.autoscaling.manifests import manifests, quantity, target_rate
from gpuserve.autoscaling.spec import AutoscalerSpec
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import ScaleTarget
from gpuserve.monitoring.adapter import adapter_rules

TARGET = ScaleTarget("gpuserve-local", "Deployment", "filetype-fp32")


def scaler(**changes: Any) -> AutoscalerSpec:
    return AutoscalerSpec.parse({"target": TARGET, "min": 1, "max": 3, "queue_time": "10ms", **changes})


def hpa(**changes: Any) -> dict[str, Any]:
    return manifests("filetype-fp32", scaler(**changes))["hpa"]


def test_queue_time_is_a_pods_metric_in_milliseconds() -> None:
    (metric,) = hpa()["spec"]["metrics"]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] == "gpuserve_queue_seconds"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "10m"}


def test_qps_is_requests_per_second_of_a_replica() -> None:
    (metric,) = hpa(queue_time=None, qps=12.5)["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "gpuserve_requests_per_second"
    assert metric["pods"]["target"]["averageValue"] == "12500m"


def test_the_target_is_four_fifths_of_a_measured_capacity() -> None:
    (metric,) = hpa(queue_time=None, capacity=250.5)["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "gpuserve_requests_per_second"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "200400m"}


def test_a_capacity_that_was_not_measured_is_no_target() -> None:
    with pytest.raises(SpecError, match=r"filetype-fp32: scale target: .*carries none.*gpuserve bench .*--attach"):
        target_rate("filetype-fp32", None)
    assert target_rate("tiny", 0.0001) == "1m"


def test_both_metrics_are_ones_that_the_adapter_makes() -> None:
    (rule,) = adapter_rules()
    for changes in ({}, {"queue_time": None, "qps": 1}, {"queue_time": None, "capacity": 1}):
        name = hpa(**changes)["spec"]["metrics"][0]["pods"]["metric"]["name"]
        assert name.removeprefix("gpuserve_") in rule["seriesQuery"]


def test_it_grows_at_once_and_shrinks_after_the_window() -> None:
    behaviour = hpa(scale_down_window="15s")["spec"]["behavior"]
    assert behaviour["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 15


def shrinking(replicas: int, **changes: Any) -> int:
    """Return how many replicas are left after one period, where the metric says that one would be enough."""
    down = hpa(**changes)["spec"]["behavior"]["scaleDown"]
    assert down["selectPolicy"] == "Max"
    steps = [(policy["type"], policy["value"]) for policy in down["policies"]]
    # As Kubernetes counts: https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/controller/podautoscaler/horizontal.go
    return min(int(replicas * (1 - value / 100)) if kind == "Percent" else replicas - value for kind, value in steps)


def test_a_short_queue_takes_a_tenth_of_the_replicas_and_not_all() -> None:
    assert [shrinking(replicas) for replicas in (2, 8, 100)] == [1, 7, 90]
    assert shrinking(100, queue_time=None, qps=5) == 0, "a rate of requests is in proportion to the load"


@pytest.mark.parametrize(("window", "period"), [("0s", 15), ("15s", 15), ("5m", 300), ("1h", 1800)])
def test_the_queue_is_looked_at_again_before_more_replicas_go(window: str, period: int) -> None:
    down = hpa(scale_down_window=window)["spec"]["behavior"]["scaleDown"]
    assert {policy["periodSeconds"] for policy in down["policies"]} == {period}


def test_pulumi_does_not_wait_for_traffic() -> None:
    assert hpa()["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"


@pytest.mark.parametrize(("value", "expected"), [(0.01, "10m"), (0.001, "1m"), (200, "200"), (0.5, "500m"), (1.5, "1500m")])
def test_quantities(value: float, expected: str) -> None:
    assert quantity(value) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min": 4}, "has max 3 below min 4"),
        ({"qps": 5}, "names queue_time and qps"),
        ({"capacity": 5}, "names queue_time and capacity"),
        ({"queue_time": None, "capacity": 0}, "is no number of requests per second above 0"),
        ({"queue_time": None, "capacity": "many"}, "is no number of requests per second above 0"),
        ({"queue_time": None, "capacity": float("nan")}, "is no number of requests per second above 0"),
        ({"queue_time": None}, "names neither queue_time nor qps nor capacity"),
        ({"queue_time": "0.5ms"}, "is below 1ms"),
        ({"min": 0}, "min = 0"),
        ({"scale_down_window": "2h"}, "set at most 1h"),
        ({"queue_time": "10 m"}, "is not a length of time"),
        ({"target": ScaleTarget("n", "DaemonSet", "d")}, "is a DaemonSet"),
    ],
)
def test_refusals_say_what_to_write(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        scaler(**changes)
    assert words in str(caught.value)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 100),
    st.integers(0, 100),
    st.integers(1, 3600),
    st.builds(lambda ms: {"queue_time": f"{ms}ms"}, st.integers(1, 60_000))
    | st.builds(lambda qps: {"queue_time": None, "qps": qps}, st.floats(0.001, 1e5))
    | st.builds(lambda rate: {"queue_time": None, "capacity": rate}, st.floats(0.001, 1e5)),
)
def test_every_object_is_valid_kubernetes(least: int, more: int, window: int, signal: dict[str, Any]) -> None:
    made = hpa(min=least, max=least + more, scale_down_window=f"{window}s", **signal)
    kubernetes_validate.validate(made, "1.36", strict=True)
