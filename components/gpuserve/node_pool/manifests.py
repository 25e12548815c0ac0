"""What a pool of GPU nodes becomes, and the placement that it hands to servers."""

from typing import Any

from gpuserve.kubernetes.metadata import Manifest, labels, manifest, patch
from gpuserve.kubernetes.values import Placement
from gpuserve.node_pool.accelerators import accelerator
from gpuserve.node_pool.spec import NodePoolSpec, TolerationSpec

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
    """Return where a server of this pool may run."""
    gpu = accelerator(spec.accelerator)
    return Placement(
        pool=spec.name,
        namespace=spec.namespace,
        node_selector=_node_selector(spec),
        tolerations=(_toleration(TolerationSpec(key=GPU_RESOURCE, effect="NoSchedule")), *map(_toleration, spec.tolerations)),
        resource=GPU_RESOURCE,
        architecture=gpu.architecture,
        simulated=gpu.simulated,
    )


def _node_selector(spec: NodePoolSpec) -> dict[str, str]:
    """Return the labels that choose the nodes.

    Nodes that the pool reserves are chosen by its own label, which tells two pools of the same GPU apart. Otherwise labels that the spec
    names, or that of the GPU product; a simulated GPU has no product, and there the requested resource alone decides.
    """
    if spec.nodes:
        return {POOL_LABEL: spec.name}
    product = accelerator(spec.accelerator).product
    return dict(spec.node_selector) or ({PRODUCT_LABEL: product} if product else {})


def _toleration(spec: TolerationSpec) -> dict[str, str]:
    # Kubernetes' own default is `Equal` with an empty value, which is nobody's taint.
    wanted = {"operator": "Exists"} if spec.value is None else {"operator": "Equal", "value": spec.value}
    return {"key": spec.key, **wanted, **({"effect": spec.effect} if spec.effect else {})}


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
