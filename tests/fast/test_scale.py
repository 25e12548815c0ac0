"""How many replicas a service says it wants: what follows from one number, and what would do nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from gpuserve.platform.spec import ScaleSpec


@pytest.mark.parametrize(
    ("given", "least", "most"), [({}, 1, 1), ({"min": 3}, 3, 3), ({"max": 3}, 1, 3), ({"min": 2, "max": 5}, 2, 5)]
)
def test_without_a_max_a_service_keeps_to_its_min(given: dict[str, int], least: int, most: int) -> None:
    scale = ScaleSpec.parse(given)
    assert (scale.min, scale.max) == (least, most)


def test_a_service_with_a_min_alone_runs_so_many(sandbox: Any, cli: Callable[..., Any]) -> None:
    sandbox.service["scale"] = {"min": 2}
    sandbox.write()
    objects = list(yaml.safe_load_all(cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout))
    assert {one["spec"]["replicas"] for one in objects if one["kind"] == "Deployment"} == {2}
    assert not [one for one in objects if one["kind"] == "HorizontalPodAutoscaler"]


def test_a_wrong_min_is_one_problem(sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.service["scale"] = {"min": 0}
    sandbox.write()
    (said,) = refusal().splitlines()
    assert "services[0].scale.min = 0" in said


@pytest.mark.parametrize("most", [{}, {"max": 3}])
@pytest.mark.parametrize(("name", "value"), [("queue_time", "10ms"), ("qps", 200.0), ("scale_down_window", "60s")])
def test_what_an_autoscaler_would_need_is_refused_where_there_is_none(
    name: str, value: object, most: dict[str, int], sandbox: Any, refusal: Callable[[], str]
) -> None:
    sandbox.platform["pools"][0].update(gpus=16, quota={"gpus": 16})
    sandbox.service["scale"] = {"min": 3, **most, name: value}
    sandbox.write()
    (said,) = refusal().splitlines()
    assert f"services[0].scale.{name} = {value!r}: would do nothing, for max is min (3)" in said
    assert "Fix: set `max:` above 3, or remove it" in said


@pytest.mark.parametrize("value", [True, "200"])
def test_a_rate_is_a_number(value: object, sandbox: Any, refusal: Callable[[], str]) -> None:
    sandbox.service["scale"] = {"max": 3, "qps": value}
    sandbox.write()
    assert f"services[0].scale.qps = {value!r}: is not a number" in refusal()
