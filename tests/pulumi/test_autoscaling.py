"""The autoscaler as a component under Pulumi's mocks."""

from typing import Any

import pytest

from gpuserve.autoscaling import GpuAutoscaler
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import ScaleTarget

ARGS = {"target": ScaleTarget("gpuserve-local", "Deployment", "filetype-fp32"), "max": 3, "queue_time": "10ms"}


def test_it_registers_one_autoscaler_for_its_target(engine: Any) -> None:
    engine.run(lambda: GpuAutoscaler("filetype-fp32", ARGS))
    assert engine.types() == {
        "filetype-fp32": "gpuserve:index:GpuAutoscaler",
        "filetype-fp32-hpa": "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
    }
    spec = engine.resources["filetype-fp32-hpa"].inputs["spec"]
    assert spec["scaleTargetRef"]["name"] == "filetype-fp32"
    assert engine.outputs["filetype-fp32"] == {"target": "filetype-fp32"}


def test_a_bad_autoscaler_registers_nothing(engine: Any) -> None:
    with pytest.raises(SpecError, match="both queue_time and qps"):
        engine.run(lambda: GpuAutoscaler("filetype-fp32", {**ARGS, "qps": 3}))
    assert engine.resources == {}
