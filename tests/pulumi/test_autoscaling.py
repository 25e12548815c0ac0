"""The autoscaler as a component under Pulumi's mocks."""

import logging
import math
from typing import Any

import pulumi
import pytest

from gpuserve.autoscaling.component import GpuAutoscaler
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


def test_a_capacity_may_be_known_later(engine: Any) -> None:
    measured = {key: value for key, value in ARGS.items() if key != "queue_time"}
    engine.run(lambda: GpuAutoscaler("filetype-fp32", {**measured, "capacity": pulumi.Output.from_input(100.0)}))
    (metric,) = engine.resources["filetype-fp32-hpa"].inputs["spec"]["metrics"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "80"}


def test_an_image_without_a_capacity_ends_the_program_with_a_sentence(engine: Any) -> None:
    # The engine's language host does the same: the program's end says it, asyncio need not.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    measured = {key: value for key, value in ARGS.items() if key != "queue_time"}
    with pytest.raises(pulumi.RunError, match=r"filetype-fp32: scale target: .*carries none.*give `queue_time:` or `qps:`"):
        engine.run(lambda: GpuAutoscaler("filetype-fp32", {**measured, "capacity": pulumi.Output.from_input(None)}))
    assert "filetype-fp32-hpa" not in engine.resources


@pytest.mark.parametrize(
    ("value", "kind"), [("12", "str"), (math.nan, "float"), (math.inf, "float"), (-1.0, "float"), (True, "bool")]
)
def test_a_capacity_that_turns_out_to_be_none_ends_the_program_with_a_sentence(value: object, kind: str, engine: Any) -> None:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    measured = {key: value for key, value in ARGS.items() if key != "queue_time"}
    says = (
        f"^filetype-fp32: capacity: resolves to a {kind} that is no number of requests per second above 0. Fix: pass what was"
    )
    with pytest.raises(pulumi.RunError, match=says):
        engine.run(lambda: GpuAutoscaler("filetype-fp32", {**measured, "capacity": pulumi.Output.from_input(value)}))
    assert "filetype-fp32-hpa" not in engine.resources


def test_a_bad_autoscaler_registers_nothing(engine: Any) -> None:
    with pytest.raises(SpecError, match="names queue_time and qps"):
        engine.run(lambda: GpuAutoscaler("filetype-fp32", {**ARGS, "qps": 3}))
    assert engine.resources == {}
