"""Whole environments: what each stack renders, whether Kubernetes would take it, and whether any stack at all can break it."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from gpuserve.cli.output import to_yaml
from gpuserve.cli.stack import open_stack
from gpuserve.kubernetes.metadata import MANAGER, is_patch
from gpuserve.platform.checks import problems
from gpuserve.platform.compose import ImageRequest, compose
from gpuserve.platform.load import Environment, stack_names
from gpuserve.platform.render import render
from gpuserve.platform.spec import PlatformSpec
from gpuserve_images.spec import ModelSpec

STACKS = Path(__file__).parents[2] / "stacks"
NAMES = stack_names(STACKS)
KUBERNETES = "1.36"
CUSTOM = ("gateway.networking.k8s.io", "traefik.io", "cert-manager.io", "monitoring.coreos.com")
"""API groups whose schemas are not Kubernetes' own: the end-to-end tests ask an API server that has their definitions."""

DIGEST = "sha256:" + "0" * 64
MODELS = {
    name: ModelSpec.parse(
        {
            "name": name,
            "source": {"file": f"{name}.onnx"},
            "builds": {"a": {"engine": "onnxruntime"}, "b": {"engine": "onnxruntime"}, "c": {"engine": "onnxruntime"}},
            "verify": {"inputs": "samples/", "top1_agreement": 0.9},
            "slo": slo,
        }
    )
    for name, slo in (("plain", {}), ("promised", {"latency_p95": "50ms", "availability": "99.9%"}))
}


def test_there_are_the_four_environments():
    assert NAMES == ["dev", "local", "prod", "staging"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_renders_what_it_did(name: str, snapshot: SnapshotAssertion):
    manifests = list(open_stack(name, STACKS).manifests())
    assert _without_tags(to_yaml(manifests)) == snapshot


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_schemas_accept_every_manifest(name: str):
    for manifest in open_stack(name, STACKS).manifests():
        _check(manifest)


def test_the_schema_check_can_fail():
    with pytest.raises(kubernetes_validate.ValidationError):
        _check({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": []}})


@pytest.mark.parametrize(
    ("rollouts", "quota", "fits"),
    [
        (["in-place"], {"gpus": 2}, True),
        (["surge"], {"gpus": 2}, False),
        (["surge"], {"gpus": 3, "cpu": "300m"}, True),
        (["surge"], {"gpus": 3, "cpu": "299m"}, False),
        (["surge", "surge"], {"gpus": 5}, True),  # one after the other
        (["surge", "in-place"], {"gpus": 4}, False),
        (["in-place", "in-place"], {"gpus": 4, "memory": "8Gi"}, True),
    ],
)
def test_a_quota_has_room_for_a_rollout_unless_each_is_in_place(rollouts: list[str], quota: dict[str, Any], fits: bool):
    platform = _two_versions_each([{"rollout": rollout} for rollout in rollouts], quota)
    found = [problem.field for problem in problems(platform, MODELS)]
    assert (found == []) == fits, found


def test_how_servers_start_and_are_replaced_reaches_them():
    platform = _two_versions_each([{"rollout": "in-place", "startup_timeout": "20m", "drain": "5m"}], {"gpus": 2})
    manifests = render(compose(Environment(platform, MODELS, STACKS), _image))
    servers = [manifest["spec"] for manifest in manifests if manifest["kind"] == "Deployment"]
    for server in servers:
        assert server["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
        (probe,) = (one["startupProbe"] for one in server["template"]["spec"]["containers"])
        assert probe["failureThreshold"] * probe["periodSeconds"] == 20 * 60
        pod = server["template"]["spec"]
        assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 5 * 60 < pod["terminationGracePeriodSeconds"]
        # In place a pod goes, with all the time that it has, before its successor starts, with all of its own.
        assert pod["terminationGracePeriodSeconds"] + 20 * 60 < server["progressDeadlineSeconds"]
    assert len(servers) == 2


def _two_versions_each(services: list[dict[str, Any]], quota: dict[str, Any]) -> PlatformSpec:
    whole = [
        {
            "name": f"s{number}",
            "model": "plain",
            "pool": "p",
            "versions": [{"build": "a", "weight": 50}, {"build": "b", "weight": 50}],
            "traffic": {"host": f"s{number}.example.com"},
            **service,
        }
        for number, service in enumerate(services)
    ]
    pools = [{"name": "p", "accelerator": "simulated", "gpus": 8, "quota": quota}]
    return PlatformSpec.parse({"environment": "local", "registry": "localhost:5000/m", "pools": pools, "services": whole})


# Below: any platform that passes its own checks.


def _label(letters: str = "abcdefgh") -> st.SearchStrategy[str]:
    return st.text(alphabet=letters, min_size=1, max_size=8)


def _weights(count: int) -> st.SearchStrategy[list[int]]:
    cuts = st.lists(st.integers(0, 100), min_size=count - 1, max_size=count - 1).map(sorted)
    return cuts.map(lambda found: [high - low for low, high in zip([0, *found], [*found, 100], strict=True)])


def test_clients_that_ask_a_versions_service_are_let_in_beside_the_gateway(sandbox: Any) -> None:
    def let_in() -> list[str]:
        sandbox.write()
        policies = [found for found in open_stack("local", sandbox.stacks).manifests() if found["kind"] == "NetworkPolicy"]
        peers = [
            rule["from"]
            for policy in policies
            for rule in policy["spec"]["ingress"]
            if {"protocol": "TCP", "port": 8001} in rule["ports"]
        ]
        (found,) = {
            tuple(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in each) for each in peers
        }
        return list(found)

    assert let_in() == ["gateway-system"]
    sandbox.service["clients"] = ["shop", "gateway-system", "search"]
    assert let_in() == ["gateway-system", "shop", "search"]


@st.composite
def _services(draw: st.DrawFn, pools: list[str]) -> dict[str, Any]:
    builds = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    weights = draw(_weights(len(builds)))
    least = draw(st.integers(1, 3))
    most = least + draw(st.integers(0, 3))
    signal = draw(st.sampled_from([{"queue_time": "10ms"}, {"qps": 150.5}])) if most > least else {}
    tls = draw(st.sampled_from([{}, {"mode": "secret", "secret": "mine"}, {"mode": "cert-manager", "issuer": "ca"}]))
    gateway = draw(
        st.sampled_from([{}, {"class": "istio", "http_port": 8080}, {"name": "shared", "namespace": "edge", "class": "istio"}])
    )
    name = draw(_label())
    traffic = {
        "host": f"{name}.example.com",
        "path": draw(st.sampled_from(["/", "/models/one", "/v2"])),
        "timeout": draw(st.sampled_from(["1s", "250ms", "5m"])),
        "tls": {} if "name" in gateway else tls,
        "gateway": gateway,
    }
    if draw(st.booleans()):
        traffic["mirror"] = {"to": draw(st.sampled_from(builds)), "percent": draw(st.integers(1, 100))}
    return {
        "name": name,
        "model": draw(st.sampled_from(sorted(MODELS))),
        "pool": draw(st.sampled_from(pools)),
        "versions": [{"build": build, "weight": weight} for build, weight in zip(builds, weights, strict=True)],
        "traffic": traffic,
        "scale": {"min": least, "max": most, **signal},
        "resources": draw(st.sampled_from([{}, {"gpus": 2}, {"cpu": "500m", "memory": "4Gi"}])),
        "startup_timeout": draw(st.sampled_from(["300s", "20m"])),
        "drain": draw(st.sampled_from(["10s", "2m"])),
        "rollout": draw(st.sampled_from(["surge", "in-place"])),
    }


@st.composite
def _platforms(draw: st.DrawFn) -> dict[str, Any]:
    pools = draw(st.lists(_label(), min_size=1, max_size=3, unique=True))
    services = draw(st.lists(_services(pools), min_size=1, max_size=4, unique_by=lambda service: service["name"]))
    environment = draw(st.sampled_from(["local", "dev", "staging", "prod"]))
    if environment == "prod":
        for service in services:
            _make_ready(service)
    return {
        "environment": environment,
        "registry": "registry.example.com:5000/models",
        "pools": [_pool(draw, name) for name in pools],
        "services": services,
        "monitoring": {
            "alerts": draw(st.booleans()),
            "dashboards": draw(st.booleans()),
            "discovery": draw(st.sampled_from(["annotations", "operator"])),
            "window": draw(st.sampled_from(["15s", "1m", "2m"])),
        },
    }


def _make_ready(service: dict[str, Any]) -> None:
    """Give a service what production wants."""
    service["scale"].update(min=service["scale"]["min"] + 1, max=service["scale"]["max"] + 1)
    if "name" not in service["traffic"]["gateway"] and not service["traffic"]["tls"]:
        service["traffic"]["tls"] = {"mode": "generated"}


def _pool(draw: st.DrawFn, name: str) -> dict[str, Any]:
    limits = draw(st.sampled_from([{}, {"cpu": "64"}, {"cpu": "64", "memory": "256Gi"}]))
    nodes = [f"{name}-node-{number}" for number in range(draw(st.integers(0, 2)))]
    accelerator = draw(st.sampled_from(["simulated", "T4", "A10", "A100-SXM4-80GB"]))
    return {"name": name, "accelerator": accelerator, "gpus": 1000, "quota": {"gpus": 1000, **limits}, "nodes": nodes}


def _image(request: ImageRequest) -> str:
    return f"registry.example.com:5000/models/{request.model}@{DIGEST}"


@pytest.mark.slow
@given(_platforms())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_platform_that_passes_its_checks_renders(data: dict[str, Any]):
    platform = PlatformSpec.parse(data)
    assert list(problems(platform, MODELS)) == []
    environment = Environment(platform, MODELS, STACKS)
    manifests = list(render(compose(environment, _image)))
    assert _repeated(manifests) == []
    for manifest in manifests:
        _check(manifest)
        if not is_patch(manifest):
            assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == MANAGER
            assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == MANAGER
    servers = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    assert len(servers) == sum(len(service["versions"]) for service in data["services"])
    assert manifests == list(render(compose(environment, _image)))


def _repeated(manifests: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the objects that are named twice."""
    names = Counter((m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests)
    return [name for name, count in names.items() if count > 1]


def _check(manifest: dict[str, Any]) -> None:
    """Hold a manifest against the schemas of Kubernetes; a partial object is checked as what it is a part of."""
    if manifest["apiVersion"].split("/")[0] not in CUSTOM:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def _without_tags(text: str) -> str:
    """Return rendered text with every content tag alike: it changes with each release of a tool that builds images."""
    return re.sub(r"(/models/|/ml[-a-z]*/)(\w+):[0-9a-f]{40}", r"\1\2:CONTENT-TAG", text)
