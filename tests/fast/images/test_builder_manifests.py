"""The Job of a build: what Kubernetes takes, what Pod Security's `restricted` level takes, and what a person reads in it."""

import re

import pytest
from pydantic import TypeAdapter
from syrupy.assertion import SnapshotAssertion

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.schemas import schema_errors
from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.manifests import BuildJob, job_manifest
from gpuserve_images.builder.spec import Builder, BuilderSpec, require_reachable

PLACEMENT = Placement(
    pool="a100",
    namespace="gpuserve-a100",
    node_selector={"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    architecture="sm_80",
)
KEY = "0123456789abcdef" * 4


def build_job(spec: dict | None = None, **changes) -> BuildJob:
    values = {
        "model": "filetype",
        "build": "int8",
        "key": KEY,
        "context": "registry.example.com/models/filetype/contexts@sha256:" + "c" * 64,
        "image": "registry.example.com/gpuserve/builder@sha256:" + "b" * 64,
        "registry": "registry.example.com",
        "placement": PLACEMENT,
        "spec": BuilderSpec.parse({"kind": "job", **(spec or {})}),
    }
    return BuildJob(**(values | changes))


EVERYTHING = {
    "namespace": "builds",
    "deadline": "90s",
    "retries": 0,
    "cpu": 4,
    "memory": "32Gi",
    "scratch": "100Gi",
    "registry_address": "http://10.244.0.1:5000",
    "registry_secret": "registry",
    "secrets": ["bucket"],
    "service_account": "builder",
}


@pytest.mark.parametrize(
    "job",
    [build_job(), build_job(EVERYTHING, gpus=1, claims=("weights",)), build_job(placement=Placement("cpu", "ns"))],
    ids=["plain", "everything", "no-selector"],
)
def test_kubernetes_takes_the_job_and_it_reads_well(job: BuildJob, snapshot: SnapshotAssertion):
    manifest = job_manifest(job)
    assert list(schema_errors(manifest)) == []
    assert manifest == snapshot


def test_the_schema_would_notice():
    manifest = job_manifest(build_job())
    manifest["spec"]["activeDeadlineSeconds"] = "1h"
    assert [field for field, _ in schema_errors(manifest)] == ["spec.activeDeadlineSeconds"]


def test_the_pod_is_restricted():
    pod = job_manifest(build_job(EVERYTHING, gpus=1, claims=("weights",)))["spec"]["template"]["spec"]
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
    assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim"}


def test_a_gpu_is_asked_for_only_where_the_engine_is_made_on_it():
    def resources(job: BuildJob):
        return job_manifest(job)["spec"]["template"]["spec"]["containers"][0]["resources"]

    assert "nvidia.com/gpu" not in resources(build_job())["limits"]
    assert resources(build_job(gpus=1))["limits"]["nvidia.com/gpu"] == "1"
    assert resources(build_job(gpus=1))["requests"]["nvidia.com/gpu"] == "1"


def test_gpus_follow_the_engine_unless_they_are_given():
    spec = BuilderSpec.parse({"kind": "job"})
    assert [spec.gpus_for(engine) for engine in ("onnxruntime", "tensorrt-rtx", "tensorrt")] == [0, 0, 1]
    spec = BuilderSpec.parse({"kind": "job", "gpus": 2.0})
    assert [spec.gpus_for(engine) for engine in ("onnxruntime", "tensorrt")] == [2, 2]
    assert BuilderSpec.parse({"kind": "job", "gpus": 0}).gpus_for("tensorrt") == 0


def test_claims_are_where_the_pod_looks_for_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GPUSERVE_PVC_MOUNTS", "/of/this/machine")
    pod = job_manifest(build_job(claims=("weights",)))["spec"]["template"]["spec"]
    assert "/mnt/pvc/weights" in {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}


def test_names_follow_the_content_and_fit():
    long = build_job(model="m" * 40, build="b" * 20 + "-" + "c" * 19)
    assert re.fullmatch(rf"build-{'m' * 19}-{'b' * 19}-[0-9a-f]{{10}}", long.name)
    assert len(long.name) <= 63 - 6  # the Job controller appends five characters to its pods' names
    context = build_job().context.partition("@")[0]
    assert build_job().name == build_job(context=f"{context}@sha256:{'d' * 64}", image="other").name
    assert build_job().name != build_job(key="f" * 64).name


@pytest.mark.parametrize("other", ["registry-prod.example.com/models", "registry.example.com/other"])
def test_two_stacks_with_different_registries_do_not_share_a_job(other: str):
    moved = build_job(
        registry=other.split("/", maxsplit=1)[0], context=build_job().context.replace("registry.example.com/models", other)
    )
    assert moved.name != build_job().name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kind": "jobs"}, "kind = 'jobs'"),
        ({"retries": 3}, "add `kind: job`"),
        ({"kind": "job", "retries": 99}, "retries = 99"),
        ({"kind": "job", "deadline": "soon"}, "deadline = 'soon'"),
        ({"kind": "job", "memory": "4GB"}, "memory = '4GB'"),
        ({"kind": "job", "registry_address": "10.244.0.1:5000"}, "http://10.244.0.1:5000"),
        ({"kind": "job", "registry_address": "http://host/path"}, "scheme, host and port alone"),
        ({"kind": "job", "namspace": "x"}, "did you mean 'namespace'?"),
    ],
)
def test_wrong_options_are_answered(data, said):
    with pytest.raises(SpecError) as caught:
        BuilderSpec.parse(data)
    assert said in str(caught.value)


def test_short_form_and_numbers_as_the_engine_sends_them():
    assert TypeAdapter(Builder).validate_python("job") == BuilderSpec.parse({"kind": "job"})
    assert BuilderSpec.parse({"kind": "job", "retries": 2.0}).retries == 2


def test_a_registry_on_loopback_needs_an_address_for_pods():
    with pytest.raises(SpecError, match="there, that name is the pod itself"):
        require_reachable("localhost:5000/models", BuilderSpec.parse({"kind": "job"}))
    require_reachable("registry.example.com/models", BuilderSpec.parse({"kind": "job"}))
    reached = BuilderSpec.parse({"kind": "job", "registry_address": "http://10.244.0.1:5000"})
    require_reachable("localhost:5000/models", reached)
