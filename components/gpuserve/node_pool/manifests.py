"""What a pool of GPU nodes becomes, and the placement that it hands to servers."""

from typing import Any

from gpuserve.kubernetes.metadata import Manifest, labels, manifest, patch
from gpuserve.kubernetes.values import Placement
from gpuserve.node_pool.accelerators import accelerator
from gpuserve.node_pool.spec import NodePoolSpec

POOL_LABEL = "gpuserve.io/pool"
PRODUCT_LABEL = "nvidia.com/gpu.product"
GPU_RESOURCE = "nvidia.com/gpu"

_TAINT = {"key": GPU_RESOURCE, "value": "present", "effect": "NoSchedule"}
"""The taint that GKE, AKS and the GPU Operator's documents use, so system pods that must run there tolerate it already."""

_CONTAINER_DEFAULTS = {"cpu": "100m", "memory": "256Mi"}
"""Requests of a container that names none: enough for a sidecar or a job, small against any quota."""


def manifests(name: str, spec: NodePoolSpec) -> dict[str, Manifest]:
    """Return the pool's objects: namespace, quota, defaults where the quota demands them, and a patch for each named node.

    Args:
        name: Name of the quota and of the defaults in the cluster.
        spec: The pool.
    """
    common = labels(name=spec.name, instance=name, component="pool") | {POOL_LABEL: spec.name}
    result = {
        "namespace": _namespace(spec, common),
        "quota": manifest(
            "v1", "ResourceQuota", name, namespace=spec.namespace, labels=common, spec={"hard": _hard_limits(spec)}
        ),
    }
    defaults = _default_requests(spec)
    if defaults:
        limits = [{"type": "Container", "defaultRequest": defaults}]
        result["defaults"] = manifest(
            "v1", "LimitRange", name, namespace=spec.namespace, labels=common, spec={"limits": limits}
        )
    for node in spec.nodes:
        result[f"node-{node}"] = patch("v1", "Node", node, labels={POOL_LABEL: spec.name}, spec={"taints": [dict(_TAINT)]})
    return result


def placement(spec: NodePoolSpec) -> Placement:
    """Return where a server of this pool may run.

    Nodes that the pool reserves are chosen by its own label, which tells two pools of the same GPU apart. Otherwise the label
    of the GPU product chooses them; a simulated GPU has no product, and there the requested resource alone decides.
    """
    gpu = accelerator(spec.accelerator)
    by_product = {PRODUCT_LABEL: gpu.product} if gpu.product else {}
    return Placement(
        pool=spec.name,
        namespace=spec.namespace,
        node_selector={POOL_LABEL: spec.name} if spec.nodes else by_product,
        tolerations=({"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"},),
        resource=GPU_RESOURCE,
        architecture=gpu.architecture,
        simulated=gpu.simulated,
    )


def _namespace(spec: NodePoolSpec, common: dict[str, str]) -> Manifest:
    security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    return manifest("v1", "Namespace", spec.namespace, labels={**spec.labels, **common, **security})


def _hard_limits(spec: NodePoolSpec) -> dict[str, Any]:
    hard = {f"requests.{GPU_RESOURCE}": str(spec.quota.gpus)}
    if spec.quota.cpu is not None:
        hard["requests.cpu"] = str(spec.quota.cpu)
    if spec.quota.memory is not None:
        hard["requests.memory"] = str(spec.quota.memory)
    return hard


def _default_requests(spec: NodePoolSpec) -> dict[str, str]:
    """Return what containers request by default.

    A quota on cpu or memory makes the API server refuse every container that does not request it, hence a default for just
    those. A quota on an extended resource makes no such demand, so without the other two there is nothing to default.
    """
    limited = {"cpu": spec.quota.cpu, "memory": spec.quota.memory}
    return {resource: amount for resource, amount in _CONTAINER_DEFAULTS.items() if limited[resource] is not None}
