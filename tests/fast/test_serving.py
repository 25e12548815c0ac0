"""A served version: what it becomes, what it hands over, and what it refuses."""

from typing import Any

import kubernetes_validate
import pulumi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.values import Endpoint, MetricsSource, Placement, ScaleTarget
from gpuserve.monitoring.series import QUANTILES
from gpuserve.serving.manifests import endpoint, manifests, metrics_source, scale_target
from gpuserve.serving.spec import ServingSpec

VERSIONS = ("1.33", "1.34", "1.35", "1.36")
PLACEMENT = Placement(
    pool="local",
    namespace="gpuserve-local",
    node_selector={"gpuserve.io/pool": "local"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    simulated=True,
)
IMAGE = "localhost:5000/models/filetype@sha256:" + "0" * 64
NAME = "filetype-fp32"


def spec(**changes: Any) -> ServingSpec:
    base = {"service": "filetype", "version": "fp32", "model": "filetype", "image": IMAGE, "placement": PLACEMENT}
    return ServingSpec.parse({**base, **changes})


def deployment(**changes: Any) -> dict[str, Any]:
    return manifests(NAME, spec(**changes))["deployment"]


def pod(**changes: Any) -> dict[str, Any]:
    return deployment(**changes)["spec"]["template"]["spec"]


def container(**changes: Any) -> dict[str, Any]:
    return pod(**changes)["containers"][0]


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        spec(**changes)
    return str(caught.value)


@st.composite
def specs(draw: st.DrawFn) -> ServingSpec:
    label = st.from_regex(r"[a-z]([-a-z0-9]{0,15}[a-z0-9])?", fullmatch=True)
    seconds = st.integers(1, 3600).map(lambda number: f"{number}s")
    place = Placement(
        pool="p",
        namespace=draw(label),
        node_selector=draw(st.sampled_from([{}, {"nvidia.com/gpu.product": "NVIDIA-L4"}])),
        tolerations=draw(st.sampled_from([(), PLACEMENT.tolerations])),
        simulated=draw(st.booleans()),
    )
    return spec(
        service=draw(label),
        version=draw(label),
        model=draw(st.from_regex(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,20}", fullmatch=True)),
        placement=place,
        replicas=draw(st.integers(1, 100)),
        autoscaled=draw(st.booleans()),
        gpus=draw(st.integers(1, 16)),
        resources={"cpu": draw(st.sampled_from(["100m", 2])), "memory": "4Gi", "shm": draw(st.sampled_from(["64Mi", "4Gi"]))},
        startup_timeout=draw(seconds),
        drain=draw(seconds),
        exit_timeout=draw(seconds),
        min_ready=draw(seconds),
        clients=draw(st.lists(label, max_size=2)),
        client_networks=draw(st.sampled_from([(), ("10.0.0.0/16", "fd00::/8")])),
    )


@settings(max_examples=20, deadline=None)
@given(specs(), st.sampled_from(VERSIONS))
def test_every_object_is_valid_kubernetes(given_spec: ServingSpec, version: str) -> None:
    objects = manifests(NAME, given_spec)
    for manifest in objects.values():
        kubernetes_validate.validate(manifest, version, strict=True)
        assert manifest["metadata"]["namespace"] == given_spec.placement.namespace
    assert "&id" not in yaml.safe_dump_all(objects.values())


@settings(deadline=None)
@given(specs())
def test_time_limits_hold_together(given_spec: ServingSpec) -> None:
    workload = manifests(NAME, given_spec)["deployment"]
    rollout, template = workload["spec"], workload["spec"]["template"]["spec"]
    sleep = template["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert rollout["progressDeadlineSeconds"] > rollout["minReadySeconds"] + template["terminationGracePeriodSeconds"]
    assert template["terminationGracePeriodSeconds"] > sleep + given_spec.exit_timeout.seconds
    assert int(workload["metadata"]["annotations"]["pulumi.com/timeoutSeconds"]) >= rollout["progressDeadlineSeconds"]


def test_the_pod_is_restricted() -> None:
    security = pod()["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["automountServiceAccountToken"] is False
    assert manifests(NAME, spec())["account"]["automountServiceAccountToken"] is False


def test_gpus_and_memory_are_limited_to_what_is_requested() -> None:
    resources = container(gpus=2, resources={"memory": "8Gi"})["resources"]
    assert resources == {
        "requests": {"cpu": "100m", "memory": "8Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "2"},
    }


def test_writable_folders_are_volumes_of_the_pod() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod()["volumes"]}
    assert volumes[mounts["/dev/shm"]] == {"medium": "Memory", "sizeLimit": "512Mi"}  # noqa: S108 - where the C library looks
    assert volumes[mounts["/tmp"]] == {"sizeLimit": "1Gi"}  # noqa: S108 - a volume of the pod


def test_probes_ask_triton_itself() -> None:
    server = container(model="digits", startup_timeout="90s")
    assert server["startupProbe"]["httpGet"]["path"] == "/v2/models/digits/ready"
    assert server["startupProbe"]["failureThreshold"] * server["startupProbe"]["periodSeconds"] == 90
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_a_rollout_never_lacks_a_ready_pod_unless_it_is_in_place() -> None:
    rollout = deployment()["spec"]
    assert rollout["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    in_place = deployment(rollout="in-place")["spec"]["strategy"]
    assert in_place == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    assert container(drain="7s")["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert "--exit-timeout-secs=20" in container(exit_timeout="20s")["args"]


def test_code_in_an_engine_is_run_only_where_that_is_said() -> None:
    option = "--backend-config=tensorrt,version-compatible=true"
    assert [option in container(**asked)["args"] for asked in ({}, {"version_compatible": True})] == [False, True]


def test_an_autoscaler_owns_the_replicas() -> None:
    assert deployment(replicas=3)["spec"]["replicas"] == 3
    assert "replicas" not in deployment(replicas=3, autoscaled=True)["spec"]


def test_the_selector_survives_a_new_image_and_a_new_version() -> None:
    before, after = deployment(), deployment(image=IMAGE.replace("0", "1"), version="int8")
    assert before["spec"]["selector"] == after["spec"]["selector"]
    labels = after["spec"]["template"]["metadata"]["labels"]
    assert labels["gpuserve.io/service"] == "filetype"
    assert labels["gpuserve.io/version"] == "int8"


def test_everything_selects_the_pods_of_this_version_only() -> None:
    objects = manifests(NAME, spec())
    labels = objects["deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["deployment"]["spec"]["selector"]["matchLabels"],
        objects["service"]["spec"]["selector"],
        objects["network"]["spec"]["podSelector"]["matchLabels"],
        objects["disruption"]["spec"]["selector"]["matchLabels"],
        metrics_source(NAME, spec()).selector,
    ]
    for selector in selectors:
        assert selector["app.kubernetes.io/instance"] == NAME
        assert selector.items() <= labels.items()


def test_one_replica_does_not_block_a_drain() -> None:
    budget = manifests(NAME, spec(replicas=1))["disruption"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_only_the_gateway_and_monitoring_are_let_in() -> None:
    policy = manifests(NAME, spec(clients=["edge"], client_networks=["10.244.0.1/32"], monitoring="metrics"))["network"]["spec"]
    api, metrics = policy["ingress"]
    assert api["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}},
        {"ipBlock": {"cidr": "10.244.0.1/32"}},
    ]
    assert [port["port"] for port in api["ports"]] == [8000, 8001]
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "metrics"}}}]
    assert [port["port"] for port in metrics["ports"]] == [8002]
    assert policy["egress"] == []
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_no_clients_means_nobody() -> None:
    policy = manifests(NAME, spec(clients=[]))["network"]["spec"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert len(policy["ingress"]) == 1


def test_pods_are_scraped_where_triton_has_its_metrics() -> None:
    annotations = deployment()["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "8002",
    }


def test_pods_that_a_pod_monitor_chooses_are_found_by_no_annotation_too() -> None:
    assert "annotations" not in deployment(discovery="operator")["spec"]["template"]["metadata"]


def test_what_is_handed_over() -> None:
    assert endpoint(NAME, spec()) == Endpoint("gpuserve-local", NAME, 8000, 8001, "v2")
    assert scale_target(NAME, spec()) == ScaleTarget("gpuserve-local", "Deployment", NAME)
    assert metrics_source(NAME, spec()) == MetricsSource(
        namespace="gpuserve-local",
        service="filetype",
        version="fp32",
        runtime="triton",
        selector={"app.kubernetes.io/name": "filetype", "app.kubernetes.io/instance": NAME},
        port="metrics",
    )


def test_the_image_may_be_known_later() -> None:
    reference = pulumi.Output.from_input(IMAGE)
    assert container(image=reference)["image"] is reference


def test_gpu_metrics_are_asked_for_only_where_there_are_gpus() -> None:
    real = Placement(pool="l4", namespace="gpuserve-l4", architecture="sm_89")
    assert "--allow-gpu-metrics=false" in container()["args"]
    assert "--allow-gpu-metrics=true" in container(placement=real)["args"]


def test_triton_exports_the_quantiles_that_are_recorded() -> None:
    arguments = container()["args"]
    assert "--metrics-config=summary_latencies=true" in arguments
    exported = next(argument for argument in arguments if "summary_quantiles=" in argument).rpartition("=")[2]
    assert {pair.partition(":")[0] for pair in exported.split(",")} == set(QUANTILES)


def test_triton_has_a_cache_for_models_that_ask_for_one() -> None:
    assert "--cache-config=local,size=67108864" in container()["args"]


def test_nvidia_s_image_is_entered_through_its_entrypoint() -> None:
    real = container(placement=Placement(pool="l4", namespace="gpuserve-l4", architecture="sm_89"))
    assert "command" not in real
    assert real["args"][0] == "tritonserver"
    assert container()["command"] == ["tritonserver"]
    assert container()["args"] == [argument.replace("metrics=true", "metrics=false") for argument in real["args"][1:]]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_default_is_valid_in_every_supported_kubernetes(version: str) -> None:
    for manifest in manifests(NAME, spec()).values():
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runtime": "tritonn"}, "did you mean 'triton'?"),
        ({"service": "File_Type"}, "is not a DNS label"),
        ({"model": "a/b"}, "model = 'a/b'"),
        ({"resources": {"memory": "1Gi", "shm": "2Gi"}}, "shm is 2Gi, but memory is 1Gi"),
        ({"resources": {"memory": "16Gb"}}, "resources.memory = '16Gb'"),
        ({"gpus": 0}, "gpus = 0"),
        ({"image": ""}, "image = ''"),
        ({"image": "Bad Image!"}, "image = 'Bad Image!': is no image's name"),
        ({"image": "https://r.example.com/m:1"}, "is no image's name"),
        ({"image": "r.example.com/m@sha256:1"}, "Fix: write for example localhost:5000/models/filetype:1"),
        ({"client_networks": ["10.0.0.1/16"]}, "client_networks[0] = '10.0.0.1/16'"),
        ({"replica": 2}, "did you mean 'replicas'?"),
    ],
)
def test_bad_specs_are_refused_with_the_field(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(**changes)


def test_structure_must_be_known_at_plan_time() -> None:
    assert "must be known at plan time" in refusal(replicas=pulumi.Output.from_input(2))


def test_a_name_that_no_service_can_have() -> None:
    with pytest.raises(SpecError, match="is not a DNS label of at most 63"):
        manifests("a" * 64, spec())
