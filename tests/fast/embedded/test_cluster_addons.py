"""The system's pods as data: addresses agree with the layout, images are pinned, pods are confined."""

import re
from typing import Any

import pytest
import yaml

from gpuserve.monitoring.adapter import adapter_rules
from gpuserve_embedded.cluster import addons, layout
from gpuserve_embedded.cluster.images import SYSTEM_IMAGES

DIGESTS = {image.repository: f"{image.repository}@sha256:{'0' * 64}" for image in SYSTEM_IMAGES}


def every_object() -> list[Any]:
    return [manifest for name in addons.MANIFESTS for manifest in addons.read(name)]


def pods() -> list[Any]:
    return [
        pytest.param(manifest["spec"]["template"], id=manifest["metadata"]["name"])
        for manifest in every_object()
        if manifest["kind"] in {"Deployment", "DaemonSet"}
    ]


def find(kind: str, name: str) -> Any:
    return next(found for found in every_object() if (found["kind"], found["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("pod", pods())
def test_a_pod_runs_on_a_node_with_any_taint(pod) -> None:
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize("pod", pods())
def test_a_pod_is_confined(pod) -> None:
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["spec"]["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("pod", pods())
def test_a_pod_asks_for_little_and_is_bounded(pod) -> None:
    for container in pod["spec"]["containers"]:
        assert int(container["resources"]["requests"]["cpu"].removesuffix("m")) <= 20
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("pod", pods())
def test_only_the_device_plugin_is_root(pod) -> None:
    user = pod["spec"]["securityContext"]["runAsUser"]
    assert (user == 0) == (pod["metadata"]["labels"]["app.kubernetes.io/name"] == "simulated-gpus")


@pytest.mark.parametrize("pod", pods())
def test_every_image_becomes_a_digest(pod) -> None:
    manifest = {"kind": "Deployment", "spec": {"template": pod}}
    result = addons.pinned(manifest, DIGESTS)
    for container in result["spec"]["template"]["spec"]["containers"]:
        assert re.fullmatch(r"localhost:5000/gpuserve/[a-z-]+@sha256:0{64}", container["image"])
    assert "@" not in pod["spec"]["containers"][0]["image"]  # the data itself is left alone


def test_an_image_that_nobody_bakes_is_an_error() -> None:
    pod = find("Deployment", "coredns")
    with pytest.raises(KeyError):
        addons.pinned(pod, {})


def test_addresses_agree_with_the_layout() -> None:
    assert find("Service", "kube-dns")["spec"]["clusterIP"] == str(layout.DNS_IP)
    assert find("Service", "prometheus")["spec"]["clusterIP"] == str(layout.PROMETHEUS_IP)
    arguments = find("Deployment", "traefik")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--entryPoints.web.address={layout.GATEWAY_HTTP.removeprefix('http://')}" in arguments
    assert f"--entryPoints.websecure.address={layout.GATEWAY_HTTPS.removeprefix('https://')}" in arguments
    assert f"--entryPoints.metrics.address={layout.NODE_IP}:9180" in arguments
    plugin = find("DaemonSet", "simulated-gpus")["spec"]["template"]["spec"]
    assert plugin["containers"][0]["args"] == [f"--count={layout.SIMULATED_GPUS}"]
    assert plugin["volumes"][0]["hostPath"]["path"] == str(layout.DEVICE_PLUGINS)


def test_a_fixed_service_address_lies_in_the_service_range() -> None:
    for service in (layout.DNS_IP, layout.PROMETHEUS_IP, layout.KUBERNETES_IP):
        assert service in layout.SERVICES
    assert layout.NODE_IP in layout.PODS


def test_prometheus_labels_series_as_the_rules_expect() -> None:
    config = yaml.safe_load(find("ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    relabelling = config["scrape_configs"][0]["relabel_configs"]
    assert {step.get("target_label") for step in relabelling} >= {"namespace", "pod", "node"}
    labelmap = next(step for step in relabelling if step.get("action") == "labelmap")
    assert re.fullmatch(labelmap["regex"], "__meta_kubernetes_pod_label_app_kubernetes_io_name")
    assert not re.fullmatch(labelmap["regex"], "__meta_kubernetes_pod_label_pod_template_hash")


def test_the_adapter_has_the_rules_that_the_monitoring_stack_writes_for_it() -> None:
    assert yaml.safe_load(find("ConfigMap", "prometheus-adapter")["data"]["config.yaml"])["rules"] == adapter_rules()


def workload(ready: int, generation: int = 2, kind: str = "Deployment") -> dict[str, Any]:
    status = {"observedGeneration": 2, "readyReplicas": ready, "desiredNumberScheduled": 1, "numberReady": ready}
    return {"kind": kind, "metadata": {"generation": generation}, "spec": {"replicas": 1}, "status": status}


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        (workload(1), True),
        (workload(0), False),
        (workload(1, generation=3), False),
        (workload(1, kind="DaemonSet"), True),
        (workload(0, kind="DaemonSet"), False),
        ({"kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {}}, False),
    ],
)
def test_readiness_is_of_the_newest_generation(found, ready) -> None:
    assert addons._is_ready(found) is ready
