"""A pool of GPU nodes: what it becomes, what it hands over, and what it refuses."""

from typing import Any

import kubernetes_validate
import pulumi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.metadata import is_patch
from gpuserve.node_pool.accelerators import ACCELERATORS, Accelerator
from gpuserve.node_pool.manifests import manifests, placement
from gpuserve.node_pool.spec import NodePoolSpec

VERSIONS = ("1.33", "1.34", "1.35", "1.36")
LOCAL = {"name": "local", "accelerator": "simulated", "gpus": 8, "quota": {"gpus": 6}}


def pool(**changes: Any) -> NodePoolSpec:
    return NodePoolSpec.parse({**LOCAL, **changes})


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        pool(**changes)
    return str(caught.value)


@st.composite
def pools(draw: st.DrawFn) -> NodePoolSpec:
    gpus = draw(st.integers(1, 1000))
    quota = {
        "gpus": draw(st.integers(0, gpus)),
        "cpu": draw(st.none() | st.sampled_from(["500m", 8, "1.5"])),
        "memory": draw(st.none() | st.sampled_from(["16Gi", "512Mi"])),
    }
    return pool(
        name=draw(st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)),
        accelerator=draw(st.sampled_from(sorted(ACCELERATORS))),
        gpus=gpus,
        quota=quota,
        nodes=draw(st.lists(st.from_regex(r"[a-z0-9]{1,12}(\.[a-z0-9]{1,5})?", fullmatch=True), max_size=3, unique=True)),
        tolerations=draw(
            st.sampled_from([[], [{"key": "sku", "value": "gpu", "effect": "NoExecute"}, {"key": "example.com/spot"}]])
        ),
        labels=draw(st.dictionaries(st.sampled_from(["team", "cost-centre"]), st.sampled_from(["ml", "4711"]))),
    )


@settings(max_examples=20, deadline=None)
@given(pools(), st.sampled_from(VERSIONS))
def test_every_object_is_valid_kubernetes(spec: NodePoolSpec, version: str) -> None:
    objects = manifests(spec.name, spec)
    for manifest in objects.values():
        kubernetes_validate.validate(manifest, version, strict=True)
    assert "&id" not in yaml.safe_dump_all(objects.values())
    assert sum(is_patch(manifest) for manifest in objects.values()) == len(spec.nodes)


def test_namespace_admits_restricted_pods_only() -> None:
    namespace = manifests("local", pool(labels={"team": "ml"}))["namespace"]
    assert namespace["metadata"]["name"] == "gpuserve-local"
    labels = namespace["metadata"]["labels"]
    assert labels["team"] == "ml"
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {"restricted"}


def test_labels_of_the_user_never_weaken_the_namespace() -> None:
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    namespace = manifests("local", pool(labels=labels))["namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_quota_counts_gpus_and_defaults_only_what_it_limits() -> None:
    plain = manifests("local", pool())
    assert plain["quota"]["spec"]["hard"] == {"requests.nvidia.com/gpu": "6"}
    assert "defaults" not in plain

    limited = manifests("local", pool(quota={"gpus": 6, "memory": "64Gi"}))
    assert limited["quota"]["spec"]["hard"]["requests.memory"] == "64Gi"
    assert limited["defaults"]["spec"]["limits"] == [{"type": "Container", "defaultRequest": {"memory": "256Mi"}}]


def test_named_nodes_are_patched_and_chosen_by_the_pool() -> None:
    spec = pool(nodes=["gpuserve-local"])
    node = manifests("local", spec)["node-gpuserve-local"]
    assert node["kind"] == "Node"
    assert is_patch(node)
    assert node["metadata"]["labels"] == {"gpuserve.io/pool": "local"}
    assert node["spec"] == {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}
    assert placement(spec).node_selector == {"gpuserve.io/pool": "local"}


def test_placement_of_a_simulated_pool() -> None:
    place = placement(pool())
    assert (place.namespace, place.resource, place.simulated, place.architecture) == (
        "gpuserve-local",
        "nvidia.com/gpu",
        True,
        None,
    )
    assert place.node_selector == {}
    assert place.tolerations == ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},)


@pytest.mark.parametrize(
    ("name", "product", "architecture"),
    [
        ("T4", "Tesla-T4", "sm_75"),
        ("A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB", "sm_80"),
        ("A100-PCIe-80GB", "NVIDIA-A100-80GB-PCIe", "sm_80"),
        ("A10G", "NVIDIA-A10G", "sm_86"),
        ("L40S", "NVIDIA-L40S", "sm_89"),
        ("H100-SXM5-80GB", "NVIDIA-H100-80GB-HBM3", "sm_90"),
        ("B200", "NVIDIA-B200", "sm_100"),
    ],
)
def test_placement_by_product(name: str, product: str, architecture: str) -> None:
    place = placement(pool(accelerator=name))
    assert place.node_selector == {"nvidia.com/gpu.product": product}
    assert (place.architecture, place.simulated) == (architecture, False)


def test_quota_over_the_gpus_names_both_numbers() -> None:
    message = refusal(gpus=4)
    assert "quota.gpus is 6" in message
    assert "gpus is 4" in message


@pytest.mark.parametrize("changes", [{"gpus": 0.5}, {"quota": {"gpus": 0.5}}])
def test_fractions_are_refused_with_the_way_to_share(changes: dict[str, Any]) -> None:
    message = refusal(**changes)
    assert "gpus = 0.5" in message
    for way in ("MIG", "time-slicing", "MPS"):
        assert way in message


@pytest.mark.parametrize("gpu", [gpu for gpu in ACCELERATORS.values() if gpu.product], ids=lambda gpu: gpu.name)
def test_a_product_label_means_the_accelerator_whose_it_is(gpu: Accelerator) -> None:
    assert gpu.product is not None
    assert pool(accelerator=gpu.product) == pool(accelerator=gpu.name)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("A100-SXM-80GB", "did you mean 'A100-SXM4-80GB'?"),
        ("A100", "did you mean 'A100-PCIe-40GB' or 'A100-PCIe-80GB' or 'A100-SXM4-40GB' or 'A100-SXM4-80GB'?"),
        ("A100-80GB", "did you mean 'A100-PCIe-80GB' or 'A100-SXM4-80GB'?"),
        ("A100-big", "did you mean 'A100-PCIe-40GB' or 'A100-PCIe-80GB' or 'A100-SXM4-40GB' or 'A100-SXM4-80GB'?"),
        ("H100", "did you mean 'H100-PCIe' or 'H100-SXM5-80GB' or 'H100-NVL'?"),
        ("NVIDIA H100 80GB HBM3", "did you mean 'H100-SXM5-80GB'?"),
        ("L40s", "did you mean 'L40S'?"),
        ("nvidia-l4", "did you mean 'L4'?"),
        ("tesla-t4", "did you mean 'T4'?"),
        ("Simulated", "did you mean 'simulated'?"),
        ("simulatd", "did you mean 'simulated'?"),
        ("rtx pro 6000", "did you mean 'RTX-PRO-6000'?"),
        ("NVIDIA-A10-SHARED", "Fix: write `accelerator: A10` and `node_selector: {nvidia.com/gpu.product: NVIDIA-A10-SHARED}`"),
        (
            "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
            "Fix: write `accelerator: A100-SXM4-40GB` and `node_selector: {nvidia.com/gpu.product",
        ),
    ],
)
def test_an_unknown_accelerator_suggests_those_of_its_model(written: str, meant: str) -> None:
    assert meant in refusal(accelerator=written)


@pytest.mark.parametrize("written", ["A11", "H20", "T4G", "GH200", "RTX-4090", "NVIDIA-RTX-6000-Ada-Generation", "-", "NVIDIA"])
def test_no_other_model_is_suggested_for_which_engines_would_be_built(written: str) -> None:
    assert "Fix: use one of 'A10', " in refusal(accelerator=written)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Local"}, "is not a DNS label"),
        ({"namespace": "ml_team"}, "is not the name of a namespace"),
        ({"namespace": ""}, "is not the name of a namespace"),
        ({"namespace": "n" * 64}, "at most 63 characters"),
        ({"namespace": "kube-system"}, "is a namespace of Kubernetes' own, and a pool owns its namespace"),
        ({"namespace": "default"}, "Fix: write one that nothing else is in, or leave `namespace:` out"),
        ({"quota": {"gpus": 6, "memory": "16Gb"}}, "quota.memory = '16Gb'"),
        ({"quota": {"gpu": 6}}, "did you mean 'gpus'?"),
        ({"gpus": 0}, "gpus = 0"),
        ({"nodes": ["a", "a"]}, "names a node twice"),
        ({"labels": {"team": "m l"}}, "labels.team = 'm l'"),
        ({"sharing": {"mig": "1g.10gb"}}, "unknown field"),
    ],
)
def test_bad_pools_are_refused_with_the_field(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(**changes)


def test_a_wrong_name_is_told_once_without_the_namespace_that_nobody_wrote() -> None:
    assert "namespace" not in refusal(name="Local").replace("a DNS label", "")


@pytest.mark.parametrize("namespace", ["3d-team", "recommendation-engine-feature-branch-preview-1234", "n" * 63, "defaults"])
def test_a_pools_namespace_may_be_any_that_kubernetes_takes(namespace: str) -> None:
    assert manifests("local", pool(namespace=namespace))["namespace"]["metadata"]["name"] == namespace


def test_a_pools_longest_name_has_a_namespace() -> None:
    name = "p" * 40
    assert pool(name=name).namespace == f"gpuserve-{name}"


def test_structure_must_be_known_at_plan_time() -> None:
    later: Any = pulumi.Output.from_input(8)
    assert "must be known at plan time" in refusal(gpus=later)


def test_nodes_are_chosen_by_the_labels_and_taints_that_they_have() -> None:
    labels = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    spec = pool(
        accelerator="L4",
        node_selector=labels,
        tolerations=[{"key": "sku", "value": "gpu"}, {"key": "a.com/b", "effect": "NoExecute"}],
    )
    place = placement(spec)
    assert place.node_selector == labels
    assert place.tolerations == (
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "sku", "operator": "Equal", "value": "gpu"},
        {"key": "a.com/b", "operator": "Exists", "effect": "NoExecute"},
    )
    assert place.architecture == "sm_89"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": ["a"], "node_selector": {"a": "b"}}, ["nodes and a node_selector", "remove one"]),
        ({"node_selector": {"a b": "c"}}, ["node_selector.a b", "is no key of a label", "example.com/team"]),
        ({"node_selector": {"A.com/team": "c"}}, ["node_selector.A.com/team", "is no key of a label"]),
        ({"labels": {"team/": "c"}}, ["labels.team/", "is no key of a label"]),
        ({"node_selector": {"team": "two words"}}, ["node_selector.team", "two words"]),
        ({"tolerations": [{"value": "x"}]}, ["tolerations[0].key", "is required but missing", "add `key:`"]),
        ({"tolerations": [{"key": "x", "effect": "NoRun"}]}, ["tolerations[0].effect", "NoRun", "NoSchedule"]),
    ],
)
def test_selectors_that_no_node_can_have_are_refused(changes: dict[str, Any], said: list[str]) -> None:
    message = refusal(**changes)
    for part in said:
        assert part in message, message
