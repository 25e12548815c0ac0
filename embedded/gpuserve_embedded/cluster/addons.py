"""What runs in every cluster: DNS, simulated GPUs, the gateway, Prometheus and its adapter, and the kinds they bring."""

import base64
import copy
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

import yaml

from gpuserve_embedded.cluster.api import Api, Manifest
from gpuserve_embedded.cluster.layout import NODE, PKI, REGISTRY, SIMULATED_GPUS

MANIFESTS: Final = ("namespaces", "coredns", "simulated-gpus", "traefik", "prometheus", "prometheus-adapter")
"""Files of the folder ``manifests``, in the order in which they are applied."""

_METRICS_API: Final = "v1beta1.custom.metrics.k8s.io"


def manifests(images: Mapping[str, str]) -> list[Manifest]:
    """Return all objects of the system.

    Args:
        images: reference by digest of each image, by the name that the manifests write.

    Raises:
        KeyError: a manifest names an image that is not among them.
    """
    objects = [pinned(manifest, images) for name in MANIFESTS for manifest in read(name)]
    # Behind the namespaces and before the pod that mounts the certificate.
    return [*objects[:2], *metrics_api(), *objects[2:]]


def read(name: str) -> list[Manifest]:
    """Return the objects of one manifest file, as written."""
    text = (files("gpuserve_embedded.cluster") / "manifests" / f"{name}.yaml").read_text()
    return list(cast("Iterator[Manifest]", yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))))


def pinned(manifest: Manifest, images: Mapping[str, str]) -> Manifest:
    """Return the object with every image of the local registry given by digest."""
    result = copy.deepcopy(dict(manifest))
    for container in _containers(result):
        if container["image"].startswith(f"{REGISTRY}/"):
            container["image"] = images[container["image"]]
    return result


def metrics_api() -> list[Manifest]:
    """Return the certificate of prometheus-adapter and its registration as an aggregated API, with its authority."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "prometheus-adapter-tls", "namespace": "monitoring"},
            "type": "kubernetes.io/tls",
            "data": {
                "tls.crt": _base64("prometheus-adapter.crt"),
                "tls.key": _base64("prometheus-adapter.key"),
            },
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _METRICS_API},
            "spec": {
                "group": "custom.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": _base64("ca.crt"),
                "service": {"namespace": "monitoring", "name": "prometheus-adapter", "port": 443},
            },
        },
    ]


def wanting(api: Api) -> str | None:
    """Return what is not ready yet, in words; None when everything is."""
    return next(_wanting(api), None)


def gpus(node: Mapping[str, Any]) -> int:
    """Return how many GPUs pods may have on a node."""
    return int(node["status"].get("allocatable", {}).get("nvidia.com/gpu", 0))


def has_condition(found: Mapping[str, Any], kind: str) -> bool:
    """Return whether an object's condition of that type is true."""
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _wanting(api: Api) -> Iterator[str]:
    node = api.get(f"/api/v1/nodes/{NODE}")
    if node is None or not has_condition(node, "Ready"):
        yield f"node {NODE} is not {'ready' if node else 'registered'}"
        return
    for path, kind in (("deployments", "Deployment"), ("daemonsets", "DaemonSet")):
        for namespace, name in _workloads(kind):
            found = api.get(f"/apis/apps/v1/namespaces/{namespace}/{path}/{name}")
            if found is None or not _is_ready(found):
                yield f"{kind} {namespace}/{name} is not ready{_why(api, namespace, name)}"
    if gpus(node) != SIMULATED_GPUS:
        yield f"node {NODE} offers {gpus(node)} of {SIMULATED_GPUS} simulated GPUs"
    gateway_class = api.get("/apis/gateway.networking.k8s.io/v1/gatewayclasses/traefik")
    if gateway_class is None or not has_condition(gateway_class, "Accepted"):
        yield "GatewayClass traefik is not accepted"
    service = api.get(f"/apis/apiregistration.k8s.io/v1/apiservices/{_METRICS_API}")
    if service is None or not has_condition(service, "Available"):
        yield f"APIService {_METRICS_API} is not available"


@cache
def _workloads(kind: str) -> list[tuple[str, str]]:
    return [
        (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        for name in MANIFESTS
        for manifest in read(name)
        if manifest["kind"] == kind
    ]


def _is_ready(workload: Mapping[str, Any]) -> bool:
    status = workload.get("status", {})
    if status.get("observedGeneration") != workload["metadata"]["generation"]:
        return False
    if workload["kind"] == "DaemonSet":
        return 0 < int(status.get("desiredNumberScheduled", 0)) == int(status.get("numberReady", 0))
    return int(status.get("readyReplicas", 0)) >= int(workload["spec"]["replicas"])


def _why(api: Api, namespace: str, name: str) -> str:
    """Return why a workload's pod does not run, as its container says; empty where it says nothing."""
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io%2Fname%3D{name}") or {}
    for pod in pods.get("items", []):
        for container in pod["status"].get("containerStatuses", []):
            waiting = container["state"].get("waiting", {})
            if waiting.get("message"):
                return f" ({waiting['reason']}: {waiting['message']})"
    return ""


def _containers(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    template = manifest.get("spec", {}).get("template", {})
    return template.get("spec", {}).get("containers", []) if isinstance(template, dict) else []


def _base64(name: str) -> str:
    return base64.b64encode((PKI / name).read_bytes()).decode()
