"""The rules as pure functions, and the policy pack through its own server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY
from pulumi_policy.proxy import UNKNOWN_ARRAY_VALUE, UNKNOWN_STRING_VALUE

from gpuserve_policies import RULES, Context, secrets, violations
from gpuserve_policies.gpu import GPU_LIMITS
from gpuserve_policies.images import IMAGE_PINNED
from gpuserve_policies.pack import _given
from gpuserve_policies.probes import PROBES_PRESENT
from gpuserve_policies.rule import Rule

ROOT = Path(__file__).parents[2]
DIGEST = "registry.example.com/filetype@sha256:" + "a" * 64
TAGGED = "localhost:5000/models/filetype:" + "b" * 40
PROBE = {"httpGet": {"path": "/v2/health/ready", "port": "http"}}
SERVER = {"app.kubernetes.io/part-of": "gpuserve", "app.kubernetes.io/component": "server"}
AT = "spec.template.spec.containers[0]"


def container(**changes: object) -> dict:
    whole = {
        "name": "server",
        "image": DIGEST,
        "resources": {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}},
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
        "startupProbe": PROBE,
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def deployment(*containers: dict, kind: str = "Deployment", labels: dict | None = None, **pod: object) -> dict:
    template = {"metadata": {"labels": labels or {}}, "spec": {"containers": list(containers), **pod}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x"}, "spec": {"template": template}}


def fields(rule: Rule, manifest: dict, context: Context | None = None) -> list[str]:
    return [violation.field for violation in violations(rule, manifest, context)]


@pytest.mark.parametrize("kinds", [["requests"], ["limits"], ["requests", "limits"]])
def test_an_unknown_number_of_gpus_is_said_to_be_unchecked(kinds: list[str]) -> None:
    amounts = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    amounts |= {kind: {"nvidia.com/gpu": object()} for kind in kinds}
    (violation,) = violations(GPU_LIMITS, deployment(container(resources=amounts)))
    assert violation.unchecked
    assert violation.field.startswith(f"{AT}.resources.")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_good_server_breaks_no_rule(rule: Rule) -> None:
    assert fields(rule, deployment(container(), labels=SERVER)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("manifest", [{"kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": []}}, {"kind": "Pod"}])
def test_other_kinds_and_empty_objects_are_none_of_their_business(rule: Rule, manifest: dict) -> None:
    assert fields(rule, manifest) == []


@pytest.mark.parametrize(
    ("resources", "broken"),
    [
        ({"requests": {"nvidia.com/gpu": "1"}}, [f"{AT}.resources.limits"]),
        ({"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}, [f"{AT}.resources.limits[nvidia.com/gpu]"]),
        ({"requests": {"nvidia.com/mig-1g.10gb": 1}, "limits": {"memory": "1Gi"}}, [f"{AT}.resources.limits"]),
        ({"requests": {"nvidia.com/gpu": 1.0}, "limits": {"nvidia.com/gpu": "1"}}, []),
        ({"limits": {"nvidia.com/gpu": 1}}, []),  # the API server copies the limit to the request
        ({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, []),  # no GPU, no business of this rule
        (None, []),
    ],
)
def test_gpu_limits_equal_requests(resources: dict | None, broken: list[str]) -> None:
    assert fields(GPU_LIMITS, deployment(container(resources=resources))) == broken


def test_a_model_server_without_a_gpu_is_found() -> None:
    plain = container(resources={"requests": {"cpu": "1"}})
    assert fields(GPU_LIMITS, deployment(plain, labels=SERVER)) == [f"{AT}.resources.limits"]
    assert fields(GPU_LIMITS, deployment(plain)) == []
    assert fields(GPU_LIMITS, deployment(plain, container(), labels=SERVER)) == []
    assert fields(GPU_LIMITS, deployment(plain, labels=SERVER, resourceClaims=[{"name": "gpu"}])) == []


@pytest.mark.parametrize(
    ("image", "word"),
    [
        ("nginx", "pushed last"),
        ("nginx:latest", "pushed last"),
        ("localhost:5000/nginx", "pushed last"),
        ("localhost:5000/nginx:1.27", "can be moved"),
        ("nginx@sha256:abc", "malformed"),
        (TAGGED, "can be moved"),
        ("", "missing"),
        (None, "missing"),
    ],
)
def test_an_image_that_is_not_pinned_is_found(image: str | None, word: str) -> None:
    [violation] = violations(IMAGE_PINNED, deployment(container(image=image)))
    assert violation.field == f"{AT}.image"
    assert word in violation.reason


def test_a_content_tag_counts_only_when_this_stack_builds_it() -> None:
    context = Context(built_images=frozenset({TAGGED}))
    assert fields(IMAGE_PINNED, deployment(container(image=TAGGED)), context) == []
    assert fields(IMAGE_PINNED, deployment(container(image=TAGGED.replace("b", "c"))), context) == [f"{AT}.image"]


def test_init_containers_and_every_kind_of_pod_are_seen() -> None:
    bad = container(image="nginx")
    pod = {"kind": "Pod", "metadata": {"name": "x"}, "spec": {"initContainers": [bad], "containers": [bad]}}
    assert fields(IMAGE_PINNED, pod) == ["spec.initContainers[0].image", "spec.containers[0].image"]
    job = {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [bad]}}}}}}
    assert fields(IMAGE_PINNED, job) == ["spec.jobTemplate.spec.template.spec.containers[0].image"]


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe", "startupProbe"])
def test_a_missing_probe_is_found(probe: str) -> None:
    assert fields(PROBES_PRESENT, deployment(container(**{probe: None}))) == [f"{AT}.{probe}"]
    assert fields(PROBES_PRESENT, deployment(container(**{probe: None}), kind="StatefulSet")) == [f"{AT}.{probe}"]
    assert fields(PROBES_PRESENT, deployment(container(**{probe: None}), kind="Job")) == []


def test_without_a_gpu_no_startup_probe_is_asked_for() -> None:
    assert fields(PROBES_PRESENT, deployment(container(resources=None, startupProbe=None))) == []


def test_an_unknown_image_is_neither_passed_nor_blamed_and_hides_nothing() -> None:
    unknown, bad = container(image=object()), container(image="nginx")
    first, second = violations(IMAGE_PINNED, deployment(unknown, bad))
    assert (first.field, first.unchecked) == (f"{AT}.image", True)
    assert (second.field, second.unchecked) == ("spec.template.spec.containers[1].image", False)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_unknown_template_is_said_to_be_unchecked(rule: Rule) -> None:
    manifest = {"kind": "Deployment", "spec": {"template": object()}}
    assert [violation.unchecked for violation in violations(rule, manifest)] == [True]


@contextmanager
def pack() -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    """Start the pack as the engine does: its directory is run, its port is read from its first line."""
    server = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "policies")], stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    try:
        assert server.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{server.stdout.readline().strip()}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        server.terminate()
        server.wait(10)


def analyze(stub: analyzer_pb2_grpc.AnalyzerStub, resource_type: str, properties: dict) -> list[analyzer_pb2.AnalyzeDiagnostic]:
    struct = struct_pb2.Struct()
    struct.update(properties)
    request = analyzer_pb2.AnalyzeRequest(type=resource_type, properties=struct, urn="urn:pulumi:s::p::t::n", name="n")
    return list(stub.Analyze(request).diagnostics)


def test_the_pack_judges_like_the_rules() -> None:
    with pack() as stub:
        assert {policy.name for policy in stub.GetAnalyzerInfo(struct_pb2.Struct()).policies} == {r.name for r in RULES}
        assert analyze(stub, "kubernetes:apps/v1:Deployment", deployment(container(), labels=SERVER)) == []
        [found] = analyze(stub, "kubernetes:apps/v1:Deployment", deployment(container(image="nginx:1.27")))
        assert found.policyName == "image-digest"
        assert found.enforcementLevel == analyzer_pb2.MANDATORY
        assert f"{AT}.image = 'nginx:1.27'" in found.message
        assert "@sha256:" in found.message
        bare = deployment(container(image="nginx", readinessProbe=None, resources={"requests": {"nvidia.com/gpu": 1}}))
        assert {d.policyName for d in analyze(stub, "kubernetes:apps/v1:Deployment", bare)} == {r.name for r in RULES}
        assert analyze(stub, "kubernetes:apps/v1:DeploymentPatch", bare) == []
        assert analyze(stub, "aws:ecs/service:Service", bare) == []


SECRET = {SPECIAL_SIG_KEY: SPECIAL_SECRET_SIG}


@pytest.mark.parametrize("whole", [False, True])
def test_the_pack_repeats_no_secret(*, whole: bool) -> None:
    image = "registry.example.com/hunter2:hunter2"
    bad = container(image=image if whole else {**SECRET, "value": image})
    manifest = deployment(bad, container(image="nginx"))
    if whole:
        manifest["spec"] = {**SECRET, "value": manifest["spec"]}
    with pack() as stub:
        said = [found.message for found in analyze(stub, "kubernetes:apps/v1:Deployment", manifest)]
        assert len(said) == 2
        assert f"{AT}.image = <not shown: it may be a secret> is pinned by its tag only" in said[0]
        assert ("'nginx'" in said[1]) is not whole
        unknown = deployment(container(image={**SECRET, "value": UNKNOWN_STRING_VALUE}))
        (note,) = analyze(stub, "kubernetes:apps/v1:Deployment", unknown)
    assert "could not be checked in this preview" in note.message
    assert "hunter2" not in "".join(said)


def test_a_pack_that_cannot_tell_secrets_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(secrets.sdk, "deserialize_properties")
    assert secrets.keep_secrets_marked() is False
    assert _given("nginx", marked=False) == " = <not shown: it may be a secret>"


def test_the_pack_says_what_it_could_not_check() -> None:
    with pack() as stub:
        mixed = deployment(container(image=UNKNOWN_STRING_VALUE), container(image="nginx"))
        bad, note = analyze(stub, "kubernetes:apps/v1:Deployment", mixed)
        assert bad.enforcementLevel == analyzer_pb2.MANDATORY
        assert "containers[1].image" in bad.message
        assert note.enforcementLevel == analyzer_pb2.ADVISORY
        assert f"{AT}.image could not be checked in this preview" in note.message
        whole = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": UNKNOWN_ARRAY_VALUE}}}}
        notes = analyze(stub, "kubernetes:apps/v1:Deployment", whole)
        assert [n.enforcementLevel for n in notes] == [analyzer_pb2.ADVISORY] * len(RULES)
