"""What is wrong with a component used directly ends the program with the problems alone: no traceback is shown of a `RunError`."""

from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from gpuserve.autoscaling.component import GpuAutoscaler
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import Endpoint, Placement, ScaleTarget
from gpuserve.monitoring.component import MonitoringStack
from gpuserve.node_pool.component import GpuNodePool
from gpuserve.serving.component import ServingStack
from gpuserve.traffic.component import TrafficPolicy

SERVER = Endpoint(namespace="a", service="b", http_port=8000, grpc_port=8001, protocol="v2")
GOOD: dict[Callable[..., Any], dict[str, Any]] = {
    GpuNodePool: {"name": "a", "accelerator": "A10", "gpus": 1, "quota": {"gpus": 1}},
    ServingStack: {"service": "b", "version": "c", "model": "b", "image": "i", "placement": Placement("a", "a")},
    TrafficPolicy: {"service": "b", "namespace": "a", "host": "b.example.com", "split": [{"to": SERVER, "weight": 100}]},
    GpuAutoscaler: {"target": ScaleTarget("a", "Deployment", "b"), "max": 2, "qps": 5},
    MonitoringStack: {},
}


@pytest.mark.parametrize("component", GOOD)
@pytest.mark.parametrize("name", ["My_Policy", "x" * 64, "-a", "a..b", ""])
def test_a_name_that_no_object_can_have_is_refused(component: Callable[..., Any], name: str, engine: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"^name = .*: is (no name|not a DNS label) of at most 63 .*Fix: use lower-case"):
        engine.run(lambda: component(name, GOOD[component]))
    assert engine.registered == []


@pytest.mark.parametrize("component", GOOD)
def test_a_name_that_objects_can_have_is_taken(component: Callable[..., Any], engine: Any) -> None:
    engine.run(lambda: component("x" * 63, GOOD[component]))


@pytest.mark.parametrize("component", GOOD)
def test_what_a_component_refuses_is_said_without_a_traceback(component: Callable[..., Any], engine: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"^labls = 5: unknown field. Fix: ") as caught:
        engine.run(lambda: component("a", {**GOOD[component], "labls": 5}))
    assert isinstance(caught.value, SpecError)
    assert [problem.field for problem in caught.value.problems] == ["labls"]
    assert engine.registered == []
