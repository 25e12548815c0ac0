"""What commands say of a cluster's objects, and of what images were measured to answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuserve.cli import inspection
from gpuserve.cli.stack import open_stack
from gpuserve_images.errors import RegistryError
from gpuserve_images.verify.capacity import Capacity

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("kubeconfig", "words"),
    [
        (None, ["KUBECONFIG: is not set", "names no cluster"]),
        ("missing", ["the file does not exist"]),
        ("empty", ["names no cluster"]),
        ("broken", ["broken': is no YAML", "mapping values are not allowed here", "line 1, column 5"]),
        ("binary", ["binary': is no YAML"]),
        ("list", ["list': is no kubeconfig"]),
        ("dead", ["cluster http://127.0.0.1:1: does not answer"]),
    ],
)
def test_status_without_a_cluster_says_so(
    kubeconfig: str | None, words: list[str], sandbox: Any, cli: Cli, tmp_path: Path
) -> None:
    variables = {} if kubeconfig is None else {"KUBECONFIG": str(tmp_path / kubeconfig)}
    (tmp_path / "empty").write_text("")
    (tmp_path / "broken").write_text("a: b: c")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "list").write_text("- a")
    (tmp_path / "dead").write_text(DEAD)
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, env=variables)
    assert result.exit_code == 1
    for word in (*words, "Fix: "):
        assert word in result.stderr
    assert "Traceback" not in result.output


def test_the_users_own_kubeconfig_is_named_where_it_is_no_yaml(
    sandbox: Any, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.write_text("a: b: c")
    # The library takes another default where KUBECONFIG was set when it was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(own))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    assert f"KUBECONFIG: is not set, and {own} is no YAML" in result.stderr


DEAD = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


class FakeCluster:
    """Objects by kind, as `inspection.Reader` gives them."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = objects

    def list(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        name = selector.partition("=")[2]
        return [o for o in self.objects if o["kind"] == kind and name in o["metadata"].get("labels", {"": ""}).values()]

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        named = (o for o in self.objects if o["kind"] == kind and o["metadata"]["name"] == name)
        return next(named, None)


def healthy() -> list[dict[str, Any]]:
    def made(kind: str, name: str, **body: Any) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name, "namespace": "gpuserve-local", "uid": f"{kind}{name}"}, **body}

    def true(*kinds: str) -> list[dict[str, str]]:
        return [{"type": kind, "status": "True"} for kind in kinds]

    quota = made(
        "ResourceQuota", "local", status={"hard": {"requests.nvidia.com/gpu": "6"}, "used": {"requests.nvidia.com/gpu": "2"}}
    )
    listeners = [{"name": "http", "protocol": "HTTP", "port": 8080, "hostname": "tiny.example.com"}]
    address = {"addresses": [{"value": "127.0.0.1"}], "conditions": true("Accepted", "Programmed")}
    objects = [quota, made("Gateway", "tiny", spec={"listeners": listeners}, status=address)]
    objects.append(made("HTTPRoute", "tiny", status={"parents": [{"conditions": true("Accepted", "ResolvedRefs")}]}))
    for name in ("tiny-fp32", "tiny-basic"):
        objects.append(made("Deployment", name, spec={"replicas": 1}, status={"readyReplicas": 1, "updatedReplicas": 1}))
        objects += [made("NetworkPolicy", name), made("PodDisruptionBudget", name)]
        slices = made("EndpointSlice", name, endpoints=[{"conditions": {"ready": True}}])
        slices["metadata"]["labels"] = {"kubernetes.io/service-name": name}
        objects += [slices, made("HorizontalPodAutoscaler", name, status={"conditions": true("AbleToScale", "ScalingActive")})]
    return objects


CAPACITY = {"where": "in process, a test", "latency_p95_ms": 50.0, "requests_at_slo": 1234.5, "at_slo": 2000.0, "cores": 2}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Replace what the registry says about images, by the start of their name and build; no entry means nothing is attached."""
    known: dict[str, dict[str, Any]] = {}

    def capacity(image: str, _slo: object = None) -> Capacity | None:
        found = known.get(image.rsplit("/", maxsplit=1)[-1].split(":", maxsplit=1)[0])
        return Capacity.model_validate(found) if found else None

    monkeypatch.setattr("gpuserve_images.verify.attached.attached_capacity", capacity)
    return known


@pytest.mark.usefixtures("measured")
def test_status_of_a_healthy_service(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*healthy()))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json")
    assert result.exit_code == 0, result.output
    service = json.loads(result.stdout)["services"]["tiny"]
    assert (service["url"], service["host"], service["model"]) == ("http://127.0.0.1:8080", "tiny.example.com", "tiny")
    assert (service["protocol"], service["versions"]) == ("v2", {"fp32": 80, "basic": 20})
    assert service["example"].startswith("curl ")
    assert (service["ready"], service["blocked_by"]) == (True, None)
    assert service["parts"]["pool"]["used"] == {"requests.nvidia.com/gpu": "2"}
    assert service["capacity"] == {"fp32": None, "basic": None}
    shown = cli("status", "-s", "local", "--stacks", sandbox.stacks).stdout
    assert "blocked" not in shown
    assert "edited" not in shown


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("kind", "part"), [("Deployment", "pods fp32"), ("NetworkPolicy", "network fp32")])
def test_what_was_edited_by_hand_is_told(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str, part: str) -> None:
    """It is no fault of the service, and `pulumi up` does not see all of it."""
    objects = healthy()
    found = next(item for item in objects if item["kind"] == kind and item["metadata"]["name"] == "tiny-fp32")
    entry = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:extra": {}}}, "time": "today"}
    found["metadata"]["managedFields"] = [entry]
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*objects))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["services"]["tiny"]["parts"][part]["edited"] == ["spec.extra by kubectl-edit at today"]
    shown = " ".join(cli("status", "-s", "local", "--stacks", sandbox.stacks).stdout.split())
    assert "edited by hand: `pulumi up --refresh` puts right what the stack declares" in shown


@pytest.mark.parametrize("shared", [False, True])
def test_a_gateway_of_others_is_theirs_to_edit(sandbox: Any, shared: bool) -> None:
    objects = healthy()
    gateway = next(found for found in objects if found["kind"] == "Gateway")
    if shared:
        sandbox.service["traffic"]["gateway"] = {"name": "shared", "namespace": "edge", "class": "istio"}
        sandbox.write()
        gateway["metadata"]["name"] = "shared"
    gateway["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:listeners": {}}}}]
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster(*objects))["tiny"]
    assert ("edited" in service["parts"]["gateway"]) is not shared


@pytest.mark.usefixtures("measured")
def test_an_ensemble_is_what_clients_are_told_of(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.become_an_ensemble()
    sandbox.model["batch"] = "none"
    sandbox.write()
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*healthy()))
    service = json.loads(cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)["services"]["tiny"]
    assert service["model"] == "whole"
    assert "/v2/models/whole/infer" in service["example"]
    assert '"name": "raw", "shape": [1, 4]' in service["example"]


@pytest.mark.usefixtures("measured")
def test_a_wildcard_host_is_shown_as_a_name_that_can_be_sent(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.service["traffic"]["host"] = "*.example.com"
    sandbox.write()
    objects = healthy()
    gateway = next(found for found in objects if found["kind"] == "Gateway")
    gateway["spec"]["listeners"][0]["hostname"] = "*.example.com"
    del gateway["status"]["addresses"]
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*objects))
    service = json.loads(cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)["services"]["tiny"]
    assert (service["host"], service["url"]) == ("any.example.com", "http://any.example.com:8080")
    assert "-H 'Host: any.example.com'" in service["example"]
    assert "*" not in service["example"]


def test_the_address_of_a_service_has_its_path(sandbox: Any) -> None:
    sandbox.service["traffic"]["path"] = "/models/one"
    sandbox.write()
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster(*healthy()))["tiny"]
    assert service["url"] == "http://127.0.0.1:8080/models/one"
    assert " http://127.0.0.1:8080/models/one/v2/models/tiny/infer " in service["example"]


def test_a_service_is_asked_at_the_port_that_is_exposed_for_its_listener(sandbox: Any) -> None:
    sandbox.service["traffic"]["tls"] = {"mode": "generated"}
    sandbox.service["traffic"]["gateway"] = {
        "http_port": 8000,
        "https_port": 8443,
        "exposed_http_port": 80,
        "exposed_https_port": 443,
    }
    sandbox.write()
    objects = healthy()
    gateway = next(found for found in objects if found["kind"] == "Gateway")
    gateway["spec"]["listeners"] = [
        {"protocol": "HTTP", "port": 8000, "hostname": "tiny.example.com"},
        {"protocol": "HTTPS", "port": 8443, "hostname": "tiny.example.com"},
    ]
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster(*objects))["tiny"]
    assert service["url"] == "https://127.0.0.1"
    assert "--connect-to tiny.example.com:443:127.0.0.1:443 " in service["example"]
    assert " https://tiny.example.com/v2/models/tiny/infer " in service["example"]


def test_a_service_with_tls_is_asked_by_its_name_and_its_redirect_is_a_part(sandbox: Any) -> None:
    sandbox.service["traffic"]["tls"] = {"mode": "generated"}
    sandbox.write()
    objects = healthy()
    gateway = next(found for found in objects if found["kind"] == "Gateway")
    gateway["spec"]["listeners"].append({"name": "https", "protocol": "HTTPS", "port": 8443, "hostname": "tiny.example.com"})
    ca = {"kind": "ConfigMap", "metadata": {"name": "tiny-ca"}, "data": {"ca.crt": "PEM"}}
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster(*objects, ca))["tiny"]
    assert (service["url"], service["ca"]) == ("https://127.0.0.1:8443", "PEM")
    assert service["blocked_by"]["object"] == "HTTPRoute gpuserve-local/tiny-redirect"
    example = service["example"]
    assert "--connect-to tiny.example.com:8443:127.0.0.1:8443 " in example
    assert "--cacert <(kubectl get configmap tiny-ca -n gpuserve-local -o 'jsonpath={.data.ca\\.crt}') " in example
    assert " https://tiny.example.com:8443/v2/models/tiny/infer " in example


def test_status_shows_what_images_were_measured_to_answer(
    sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch, measured: dict[str, dict[str, Any]]
) -> None:
    measured["tiny"] = CAPACITY
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*healthy()))
    service = json.loads(cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)["services"]["tiny"]
    assert service["capacity"]["fp32"] == CAPACITY
    shown = cli("status", "-s", "local", "--stacks", sandbox.stacks).stdout
    assert "capacity of fp32: 1,234.5 requests/s with p95 within 50 ms (in process, a test)" in shown


def test_status_does_not_need_the_registry(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def down(image: str) -> None:
        asked.append(image)
        raise RegistryError("localhost:5000", "models/tiny", "is down", "Start it")

    monkeypatch.setattr("gpuserve_images.verify.attached.attached_capacity", down)
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*healthy()))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks)
    assert (result.exit_code, len(asked)) == (0, 1)
    assert "measured capacities are not shown: registry localhost:5000" in result.stderr


def test_render_takes_the_target_from_what_the_image_was_measured_to_answer(
    sandbox: Any, cli: Cli, measured: dict[str, dict[str, Any]]
) -> None:
    sandbox.service["scale"] = {"min": 1, "max": 3}
    sandbox.write()
    refused = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert refused.exit_code == 1
    lines = refused.stderr.splitlines()
    assert len(lines) == 2  # one for each image
    for line in lines:
        start = f"{sandbox.stack_file}: config.gpuserve:platform.services[0].scale: is to be taken from the measured capacity"
        assert line.startswith(start)
        assert re.search(r"localhost:5000/models/tiny:[0-9a-f]{40} carries none", line)
    assert refused.stdout == ""
    measured["tiny"] = CAPACITY
    objects = list(yaml.safe_load_all(cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout))
    targets = {
        found["metadata"]["name"]: found["spec"]["metrics"][0]["pods"]["target"]["averageValue"]
        for found in objects
        if found["kind"] == "HorizontalPodAutoscaler"
    }
    assert targets == {"tiny-fp32": "987600m", "tiny-basic": "987600m"}


def test_check_needs_no_measurement(sandbox: Any, cli: Cli) -> None:
    sandbox.service["scale"] = {"min": 1, "max": 3}
    sandbox.write()
    result = cli("check", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("position", range(len(healthy())))
def test_status_names_the_one_object_that_is_missing(
    position: int, sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = healthy()
    gone = objects.pop(position)
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: FakeCluster(*objects))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json")
    assert result.exit_code == 1
    service = json.loads(result.stdout)["services"]["tiny"]
    kind = {"EndpointSlice": "Service"}.get(gone["kind"], gone["kind"])
    assert service["ready"] is False
    assert service["blocked_by"]["object"] == f"{kind} gpuserve-local/{gone['metadata']['name']}"
    assert service["blocked_by"]["reason"]
    assert f"blocked by {kind}" in cli("status", "-s", "local", "--stacks", sandbox.stacks).stdout


def test_what_protects_a_server_is_shown_where_it_is_missing(sandbox: Any) -> None:
    stack = open_stack("local", sandbox.stacks)
    assert (
        not {"network fp32", "disruptions fp32"} & inspection.services(stack, FakeCluster(*healthy()))["tiny"]["parts"].keys()
    )
    objects = [found for found in healthy() if found["kind"] not in {"NetworkPolicy", "PodDisruptionBudget"}]
    parts = inspection.services(stack, FakeCluster(*objects))["tiny"]["parts"]
    assert parts["network basic"] == {
        "ready": False,
        "object": "NetworkPolicy gpuserve-local/tiny-basic",
        "reason": "does not exist; `pulumi up --refresh` makes it",
    }
    assert [name for name, part in parts.items() if not part["ready"]] == [
        "network fp32",
        "disruptions fp32",
        "network basic",
        "disruptions basic",
    ]


def test_status_before_anything_was_deployed(sandbox: Any) -> None:
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster())["tiny"]
    assert (service["url"], service["example"], service["ready"]) == (None, None, False)
    assert "pulumi up" in service["blocked_by"]["reason"]
