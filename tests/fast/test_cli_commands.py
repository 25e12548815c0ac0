"""The commands on a small platform: what they print, where, and how they exit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gpuserve.cli import check, inspection
from gpuserve.cli.schema import model_schema_text, schema_text, stack_schema
from gpuserve.cli.stack import open_stack
from gpuserve_images.errors import RegistryError
from gpuserve_images.verify.capacity import Capacity
from gpuserve_policies import Context

ROOT = Path(__file__).parents[2]
Cli = Callable[..., Any]


def test_render_prints_every_object_once_and_always_the_same(sandbox: Any, cli: Cli) -> None:
    first = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert first.exit_code == 0, first.output
    objects = list(yaml.safe_load_all(first.stdout))
    names = [check.object_name(found) for found in objects]
    assert len(set(names)) == len(names)
    assert {"Namespace gpuserve-local", "Deployment gpuserve-local/tiny-fp32", "HTTPRoute gpuserve-local/tiny"} <= set(names)
    assert "content tags" in first.stderr
    assert "&id" not in first.stdout
    assert cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout == first.stdout


def test_render_as_json_holds_the_same_objects(sandbox: Any, cli: Cli) -> None:
    as_yaml = list(yaml.safe_load_all(cli("render", "-s", "local", "--stacks", sandbox.stacks).stdout))
    as_json = json.loads(cli("render", "-s", "local", "--stacks", sandbox.stacks, "--format", "json").stdout)
    assert as_json["kind"] == "List"
    assert as_json["items"] == as_yaml


def test_render_into_a_file_leaves_stdout_alone(sandbox: Any, cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out.yaml"
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks, "-o", target)
    assert result.stdout == ""
    assert len(list(yaml.safe_load_all(target.read_text()))) > 5


def test_render_says_that_generated_keys_are_left_out(sandbox: Any, cli: Cli) -> None:
    sandbox.service["traffic"]["tls"] = {"mode": "generated"}
    sandbox.write()
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert "certificate of 'tiny' is left out" in result.stderr
    kinds = {found["kind"] for found in yaml.safe_load_all(result.stdout)}
    assert "Gateway" in kinds
    assert "Secret" not in kinds


def test_check_passes_a_good_stack(sandbox: Any, cli: Cli) -> None:
    result = cli("check", "--all", "--stacks", sandbox.stacks)
    assert result.exit_code == 0, result.output
    assert "local: " in result.stdout
    report = json.loads(cli("check", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)
    assert report["violations"] == []
    assert report["objects"]["local"] > 10


def test_check_finds_what_schema_and_rules_have_against_an_object(sandbox: Any) -> None:
    stack = open_stack("local", sandbox.stacks)
    found = next(item for item in stack.manifests() if item["kind"] == "Deployment")
    assert list(check.check_manifest("local", found, Context(built_images=stack.images))) == []
    container = found["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "nginx:latest"
    container["resources"]["limits"] = {}
    del container["readinessProbe"]
    container["imagePulPolicy"] = "Always"
    findings = list(check.check_manifest("local", found, Context(built_images=stack.images)))
    assert [finding.rule for finding in findings] == ["schema", "gpu-limits", "gpu-limits", "image-digest", "probes"]
    assert "imagePulPolicy" in findings[0].reason
    assert all(finding.object == "Deployment gpuserve-local/tiny-fp32" and finding.fix for finding in findings)


def test_check_prints_a_table_and_fails_on_violations(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuserve_policies.Context", lambda **_: Context())
    result = cli("check", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    for words in ("Deployment gpuserve-local/tiny-fp32", "image-digest", "can be moved", "@sha256:"):
        assert words in " ".join(result.stdout.split())
    report = json.loads(cli("check", "-s", "local", "--stacks", sandbox.stacks, "--json").stdout)
    assert {finding["rule"] for finding in report["violations"]} == {"image-digest"}


@pytest.mark.parametrize("name", ["local", "acme/gpuserve/local"])
def test_the_stack_is_that_of_pulumi_where_none_is_given(name: str, sandbox: Any, cli: Cli) -> None:
    written = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert cli("render", "--stacks", sandbox.stacks, env={"PULUMI_STACK": name}).stdout == written.stdout
    checked = json.loads(cli("check", "--stacks", sandbox.stacks, "--json", env={"PULUMI_STACK": name}).stdout)
    assert list(checked["objects"]) == ["local"]


def test_a_stack_that_is_given_comes_before_that_of_pulumi(sandbox: Any, cli: Cli) -> None:
    elsewhere = {"PULUMI_STACK": "absent"}
    assert cli("render", "-s", "local", "--stacks", sandbox.stacks, env=elsewhere).exit_code == 0
    checked = json.loads(cli("check", "--all", "--stacks", sandbox.stacks, "--json", env=elsewhere).stdout)
    assert list(checked["objects"]) == ["local"]


@pytest.mark.parametrize("command", ["status", "render", "check"])
def test_no_stack_at_all_is_a_wrong_command_line(command: str, cli: Cli) -> None:
    result = cli(command)
    assert result.exit_code == 2
    assert "--stack" in result.output
    assert "PULUMI_STACK" in result.output


@pytest.mark.parametrize("arguments", [(), ("-s", "local", "--all"), ("--al",)])
def test_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...], cli: Cli) -> None:
    result = cli("check", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_the_committed_schema_is_the_current_one_and_fits_the_stack_files() -> None:
    assert (ROOT / "stacks" / "schema.json").read_text() == schema_text(), "run: gpuserve schema -o stacks/schema.json"
    validator = jsonschema.Draft202012Validator(stack_schema())
    for file in sorted((ROOT / "stacks").glob("Pulumi.*.yaml")):
        assert [error.message for error in validator.iter_errors(yaml.safe_load(file.read_text()))] == [], file.name
    wrong = yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())
    wrong["config"]["gpuserve:platform"]["services"][0]["traffc"] = {}
    assert not validator.is_valid(wrong)


def test_the_committed_schema_of_models_is_the_current_one_and_fits_the_models() -> None:
    committed = ROOT / "stacks" / "models" / "schema.json"
    assert committed.read_text() == model_schema_text(), "run: gpuserve schema --model -o stacks/models/schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(model_schema_text()))
    shown = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "model-images.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    for text in [*(file.read_text() for file in (ROOT / "stacks" / "models").glob("*.yaml")), *shown]:
        data = yaml.safe_load(text)
        if data.keys() & {"kind", "builder"}:  # a pod, a stack file's builder
            continue
        model = {"name": "x", "builds": {"fp32": {"engine": "onnxruntime"}}} | data
        assert [error.message for error in validator.iter_errors(model)] == [], text
    assert not validator.is_valid({"name": "x", "source": {"fil": "x"}, "builds": {}})


@pytest.mark.parametrize("kind", ["stack", "model"])
def test_the_schema_explains_every_field(kind: str) -> None:
    if kind == "model":
        model = json.loads(model_schema_text())
        definitions = {"ModelSpec": model, **model["$defs"]}
    else:
        platform = stack_schema()["properties"]["config"]["properties"]["gpuserve:platform"]
        definitions = {"PlatformSpec": platform, **stack_schema()["$defs"]}
    bare = [
        f"{name}.{field}"
        for name, definition in definitions.items()
        for field, shown in definition.get("properties", {}).items()
        if not shown.get("description")
    ]
    assert bare == []


def test_ctrl_c_exits_quietly_with_130(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpuserve.cli.stack.open_stack", interrupted)
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert (result.exit_code, result.output.strip()) == (130, "")


def test_an_unexpected_failure_is_one_sentence_too(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("gpuserve.cli.stack.open_stack", broken)
    result = cli("render", "-s", "local", "--stacks", sandbox.stacks)
    assert result.exit_code == 1
    assert "ZeroDivisionError: by nought" in result.stderr
    assert "Traceback" not in result.output


def test_doctor_names_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    result = cli("doctor", "--json")
    found = {item["subject"]: item for item in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert not found["pulumi"]["ok"]
    assert "KUBECONFIG: is not set" in found["cluster"]["found"]
    assert not found["gpu"]["needed"]


@pytest.mark.parametrize(
    ("kubeconfig", "words"),
    [
        (None, ["KUBECONFIG: is not set", "names no cluster"]),
        ("missing", ["the file does not exist"]),
        ("empty", ["names no cluster"]),
        ("dead", ["cluster http://127.0.0.1:1: does not answer"]),
    ],
)
def test_status_without_a_cluster_says_so(
    kubeconfig: str | None, words: list[str], sandbox: Any, cli: Cli, tmp_path: Path
) -> None:
    variables = {} if kubeconfig is None else {"KUBECONFIG": str(tmp_path / kubeconfig)}
    (tmp_path / "empty").write_text("")
    (tmp_path / "dead").write_text(DEAD)
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, env=variables)
    assert result.exit_code == 1
    for word in (*words, "Fix: "):
        assert word in result.stderr
    assert "Traceback" not in result.output


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
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda: FakeCluster(*healthy()))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json")
    assert result.exit_code == 0, result.output
    service = json.loads(result.stdout)["services"]["tiny"]
    assert (service["url"], service["host"], service["model"]) == ("http://127.0.0.1:8080", "tiny.example.com", "tiny")
    assert (service["protocol"], service["versions"]) == ("v2", {"fp32": 80, "basic": 20})
    assert service["example"].startswith("curl ")
    assert (service["ready"], service["blocked_by"]) == (True, None)
    assert service["parts"]["pool"]["used"] == {"requests.nvidia.com/gpu": "2"}
    assert service["capacity"] == {"fp32": None, "basic": None}
    assert "blocked" not in cli("status", "-s", "local", "--stacks", sandbox.stacks).stdout


def test_the_address_of_a_service_has_its_path(sandbox: Any) -> None:
    sandbox.service["traffic"]["path"] = "/models/one"
    sandbox.write()
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster(*healthy()))["tiny"]
    assert service["url"] == "http://127.0.0.1:8080/models/one"
    assert " http://127.0.0.1:8080/models/one/v2/models/tiny/infer " in service["example"]


def test_status_shows_what_images_were_measured_to_answer(
    sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch, measured: dict[str, dict[str, Any]]
) -> None:
    measured["tiny"] = CAPACITY
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda: FakeCluster(*healthy()))
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
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda: FakeCluster(*healthy()))
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
    monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda: FakeCluster(*objects))
    result = cli("status", "-s", "local", "--stacks", sandbox.stacks, "--json")
    assert result.exit_code == 1
    service = json.loads(result.stdout)["services"]["tiny"]
    kind = {"EndpointSlice": "Service"}.get(gone["kind"], gone["kind"])
    assert service["ready"] is False
    assert service["blocked_by"]["object"] == f"{kind} gpuserve-local/{gone['metadata']['name']}"
    assert service["blocked_by"]["reason"]
    assert f"blocked by {kind}" in cli("status", "-s", "local", "--stacks", sandbox.stacks).stdout


def test_status_before_anything_was_deployed(sandbox: Any) -> None:
    service = inspection.services(open_stack("local", sandbox.stacks), FakeCluster())["tiny"]
    assert (service["url"], service["example"], service["ready"]) == (None, None, False)
    assert "pulumi up" in service["blocked_by"]["reason"]
