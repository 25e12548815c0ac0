"""Labels and names inside the cluster, the same for every object of gpuserve."""

from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object as plain data; leaves may be Pulumi Outputs."""

MANAGER = "gpuserve"


def labels(*, name: str, instance: str, component: str, version: str | None = None) -> dict[str, str]:
    """Return the recommended labels of https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/.

    Args:
        name: The application, for example the model or service.
        instance: This installation of it, unique in its namespace.
        component: Its role: ``server``, ``gateway``, ``pool``, ``autoscaler``, ``monitoring``.
        version: The model version, where there is one.
    """
    result = {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": MANAGER,
        "app.kubernetes.io/managed-by": MANAGER,
    }
    if version is not None:
        result["app.kubernetes.io/version"] = version
    return result


def manifest(  # noqa: PLR0913 - the five parts every Kubernetes object has
    api_version: str,
    kind: str,
    name: str,
    *,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **body: Any,
) -> Manifest:
    """Return one object; ``body`` holds its top-level fields (``spec``, ``data``, ...)."""
    metadata: dict[str, Any] = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
