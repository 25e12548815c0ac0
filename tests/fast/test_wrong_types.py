"""What is of the wrong type or size is refused in the words of YAML, and with what to write instead."""

from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from gpuserve import GpuNodePool
from gpuserve.autoscaling.spec import AutoscalerSpec
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.values import Placement
from gpuserve.monitoring.spec import MonitoringSpec
from gpuserve.serving.spec import ServingSpec
from gpuserve.traffic.spec import RouteSpec

Change = Callable[[Any], object]

CASES: dict[str, tuple[Change, str]] = {
    "one word for a list": (
        lambda box: box.service.update(clients="team-a"),
        "services[0].clients = 'team-a': is not a list. Fix: write a list, in brackets also where it has one item",
    ),
    "an object for a list of them": (
        lambda box: box.model.update(export={"inputs": {"x": {"dtype": "FP32"}}}),
        "export.inputs = {'x': {'dtype': 'FP32'}}: is not a list. Fix: write a list of objects, each with fields of these: 'name', ",
    ),
    "a number for an object": (
        lambda box: box.model.update(batch=32),
        "batch = 32: is not an object. Fix: write an object with fields of these: 'axis', 'max', 'preferred', 'queue_delay'",
    ),
    "an empty object": (
        lambda box: box.model["builds"].update(fp32=None),
        "builds.fp32: is empty, and an object is wanted. Fix: write an object with fields of these: 'engine', ",
    ),
    "a list for an object": (
        lambda box: box.model.update(builds=["fp32"]),
        "builds = ['fp32']: is not an object. Fix: write an object: a name, a colon and a value for each item",
    ),
    "a share for a number": (
        lambda box: box.service["versions"][0].update(weight="80%"),
        "services[0].versions[0].weight = '80%': is not a whole number. Fix: write 80, without quotes",
    ),
    "a word for a number": (
        lambda box: box.service["versions"][0].update(weight="most"),
        "services[0].versions[0].weight = 'most': is not a whole number. Fix: write a whole number",
    ),
    "too small a number": (
        lambda box: box.platform["pools"][0].update(gpus=0),
        "pools[0].gpus = 0: input should be greater than or equal to 1. Fix: write 1 or more",
    ),
    "too long a window": (
        lambda box: box.platform.update(monitoring={"window": "1h"}),
        "is not between 4s and 5m (four scrapes of one second, and the shortest window of the alert). Fix: set for example 1m",
    ),
    "an empty text": (
        lambda box: box.platform["pools"][0].update(accelerator=None),
        "pools[0].accelerator: is empty, and a text is wanted. Fix: write a text",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_value_of_the_wrong_type_is_refused_with_what_to_write(case: str, sandbox: Any, refusal: Callable[[], str]) -> None:
    change, expected = CASES[case]
    change(sandbox)
    sandbox.write()
    message = refusal()
    assert expected in message
    assert not any(word in message for word in ("tuple", "dictionary", "correct the value"))


class Server:
    """Stands for the component that a program passes where something of it is meant."""


@pytest.mark.parametrize(
    ("spec", "given", "words"),
    [
        (
            ServingSpec,
            {"placement": Server()},
            "placement: is a Server, and a Placement is wanted. Fix: pass the `placement` of a GpuNodePool",
        ),
        (
            ServingSpec,
            {"placement": "a10"},
            "placement = 'a10': is not a Placement. Fix: pass the `placement` of a GpuNodePool",
        ),
        (RouteSpec, {"to": Server()}, "to: is a Server, and an Endpoint is wanted. Fix: pass the `endpoint` of a ServingStack"),
        (
            AutoscalerSpec,
            {"target": Server()},
            "target: is a Server, and a ScaleTarget is wanted. Fix: pass the `scale_target` of a ServingStack",
        ),
        (
            MonitoringSpec,
            {"sources": [Server()]},
            "sources[0]: is a Server, and a MetricsSource is wanted. Fix: pass the `metrics_source` of a",
        ),
        (MonitoringSpec, {"sources": [Placement("a", "b")]}, "is a Placement, and a MetricsSource is wanted"),
        (ServingSpec, {"gpus": Server()}, "gpus: is not a whole number"),
    ],
)
def test_what_components_hand_each_other_is_asked_for_by_its_name(spec: type[Spec], given: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec.parse(given)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [None, 5, pulumi.Output.from_input("a")])
def test_a_component_has_a_name_of_text(name: Any) -> None:
    with pytest.raises(SpecError, match=r"^name: is no text, but of type (NoneType|int|Output)"):
        GpuNodePool(name, {})
