"""What a stack file says reaches the components: no field is taken and then forgotten, and what is not said means the same on both sides."""

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest

from gpuserve.autoscaling.spec import AutoscalerSpec
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.spec import Spec
from gpuserve.monitoring.spec import MonitoringSpec
from gpuserve.platform.compose import Plan, compose
from gpuserve.platform.load import Environment
from gpuserve.platform.sizes import DEFAULTS
from gpuserve.platform.spec import (
    MirrorSpec,
    MonitoringSection,
    PlatformSpec,
    ResourcesSpec,
    ScaleSpec,
    ServiceSpec,
    ServiceTrafficSpec,
    VersionSpec,
)
from gpuserve.serving.spec import ServingSpec
from gpuserve.traffic import spec as traffic
from gpuserve_images.spec import ModelSpec

PLATFORM: dict[str, Any] = {
    "registry": "localhost:5000/models",
    "pools": [
        {"name": "one", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 8}},
        {"name": "two", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 8}},
    ],
    "services": [
        {
            "name": "m",
            "pool": "one",
            "versions": [{"build": "a", "weight": 80}, {"build": "b", "weight": 20}],
            "traffic": {"host": "m.example.com", "mirror": {"to": "b"}},
            "scale": {"min": 2, "max": 3, "queue_time": "10ms"},
        }
    ],
}
BUILDS = {name: {"engine": "onnxruntime"} for name in "abc"}
MODELS = {
    name: ModelSpec.parse({"name": name, "source": {"file": "m.onnx"}, "builds": BUILDS, "slo": {"availability": "99.9%"}})
    for name in ("m", "n")
}

SERVICE, TRAFFIC, SCALE = ("services", 0), ("services", 0, "traffic"), ("services", 0, "scale")
OTHERS: dict[tuple[type[Spec], tuple[str | int, ...]], dict[str, Any]] = {
    (PlatformSpec, ()): {
        "pools": [{**pool, "gpus": 9} for pool in PLATFORM["pools"]],
        "services": [{**PLATFORM["services"][0], "pool": "two"}],
        "monitoring": {"alerts": False},
        "gateway_namespace": "traefik",
        "gateway_networks": ["10.0.0.0/16"],
    },
    (ServiceSpec, SERVICE): {
        "name": "n",
        "model": "n",
        "pool": "two",
        "versions": [{"build": "a", "weight": 50}, {"build": "b", "weight": 50}],
        "traffic": {"host": "n.example.com"},
        "scale": {"min": 2},
        "resources": {"cpu": "1"},
        "startup_timeout": "20m",
        "drain": "60s",
        "rollout": "in-place",
        "clients": ["apps"],
    },
    (VersionSpec, (*SERVICE, "versions", 0)): {"build": "c"},
    (ServiceTrafficSpec, TRAFFIC): {
        "host": "n.example.com",
        "path": "/n",
        "mirror": None,
        "timeout": "30s",
        "tls": {"mode": "generated"},
        "gateway": {"class": "traefik", "http_port": 8080},
    },
    (MirrorSpec, (*TRAFFIC, "mirror")): {"to": "a", "percent": 10},
    (ScaleSpec, SCALE): {"min": 1, "max": 4, "queue_time": "20ms", "scale_down_window": "15s"},
    (ResourcesSpec, (*SERVICE, "resources")): {"gpus": 2, "cpu": "1", "memory": "3Gi"},
    (MonitoringSection, ("monitoring",)): {
        "stack": "other",
        "alerts": False,
        "dashboards": False,
        "discovery": "operator",
        "namespace": "prometheus",
        "window": "15s",
        "labels": {"release": "kube-prometheus-stack"},
    },
}
"""Of each part of a stack file, where it stands, and for each field a value that is not the one in `PLATFORM`."""

ELSEWHERE = {
    PlatformSpec: {"registry", "models", "builder", "environment"},  # say how images are made and what is refused
    ServiceSpec: {"prebuild", "runtime"},  # images that no component sees; the only server so far
    VersionSpec: {"weight"},  # two of them change together: with `versions` of the service
    ScaleSpec: {"qps"},  # in the place of `queue_time`
}
"""Fields that no component hears of, or not alone."""


def plan(**changed: Any) -> Plan:
    environment = Environment(PlatformSpec.parse({**PLATFORM, **changed}), MODELS, Path())
    return compose(environment, lambda request: f"{request.model}/{request.build}")


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        pytest.param(where, field, value, id=f"{spec.__name__}.{field}")
        for (spec, where), fields in OTHERS.items()
        for field, value in fields.items()
    ],
)
def test_every_field_reaches_a_component(where: tuple[str | int, ...], field: str, value: Any) -> None:
    changed = copy.deepcopy(PLATFORM)
    part: Any = changed
    for step in where:
        part = part[step] if isinstance(step, int) else part.setdefault(step, {})
    assert part.get(field) != value
    part[field] = value
    assert plan(**changed) != plan()


def test_two_versions_share_the_requests_and_one_signal_takes_the_place_of_another() -> None:
    changed = copy.deepcopy(PLATFORM)
    changed["services"][0]["scale"] = {"min": 2, "max": 3, "qps": 5}
    assert plan(**changed).autoscaling["m-a"].qps == 5
    assert [route.weight for route in plan().traffic["m"].split] == [80, 20]


@pytest.mark.parametrize("name", ["cpu", "memory"])
def test_a_stack_file_s_documentation_names_the_size_that_a_replica_gets(name: str) -> None:
    assert f"{name}: " in (described := inspect.getdoc(ResourcesSpec) or "")
    assert f"default {getattr(DEFAULTS, name)}" in described.partition(f"{name}: ")[2].partition("\n")[0]


@pytest.mark.parametrize("spec", [spec for spec, _ in OTHERS])
def test_no_field_is_left_out_here(spec: type[Spec]) -> None:
    tried = next(set(fields) for (tried, _), fields in OTHERS.items() if tried is spec)
    assert tried | ELSEWHERE.get(spec, set()) == set(spec.model_fields), "add the new field to OTHERS above"


@pytest.mark.parametrize(
    ("said", "meant", "differ"),
    [
        # The service's own name, `ResourcesSpec` beside `ServerResources`, and the gateway's namespace before all others.
        (ServiceSpec, ServingSpec, {"model", "resources", "clients"}),
        (ResourcesSpec, ServingSpec, set[str]()),
        (ServiceTrafficSpec, traffic.TrafficSpec, set[str]()),
        (MirrorSpec, traffic.MirrorSpec, set[str]()),
        (ScaleSpec, AutoscalerSpec, {"max"}),  # a service without it does not scale
        (MonitoringSection, MonitoringSpec, {"stack"}),  # the stack's name
    ],
)
def test_a_default_is_the_same_in_a_stack_file_and_in_a_program(said: type[Spec], meant: type[Spec], differ: set[str]) -> None:
    shared = (set(said.model_fields) & set(meant.model_fields)) - differ
    assert shared

    def defaults(spec: type[Spec]) -> dict[str, Any]:
        return {name: spec.model_fields[name].get_default(call_default_factory=True) for name in shared}

    assert defaults(said) == defaults(meant)


def test_servers_are_found_as_the_monitoring_looks_for_them() -> None:
    found = plan(monitoring={"discovery": "operator"})
    assert {spec.discovery for spec in found.serving.values()} == {found.monitoring["platform"].discovery} == {"operator"}


@pytest.mark.parametrize("registry", ["localhost:5000/models", "[::1]:5000/models", "[2001:db8::1]", "registry.example.com"])
def test_registries_go_by_name_and_by_address(registry: str) -> None:
    assert PlatformSpec.parse(PLATFORM | {"registry": registry}).registry == registry


@pytest.mark.parametrize("registry", ["::1/models", "[::1", "https://[::1]:5000", "localhost:port/models"])
def test_what_is_no_registry_is_refused(registry: str) -> None:
    with pytest.raises(SpecError, match="registry"):
        PlatformSpec.parse(PLATFORM | {"registry": registry})
