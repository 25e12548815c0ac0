"""Labels and names inside the cluster, the same for every object of gpuserve."""

from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object as plain data; leaves may be Pulumi Outputs."""

MANAGER = "gpuserve"

SERVICE_LABEL = "gpuserve.io/service"
"""Label of a server's pods: the service that they answer for. Metrics are told apart by it and by `VERSION_LABEL`."""

VERSION_LABEL = "gpuserve.io/version"

_FORCE = "pulumi.com/patchForce"


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


def patch(api_version: str, kind: str, name: str, *, labels: Mapping[str, str] | None = None, **body: Any) -> Manifest:
    """Return a few fields of an object that somebody else made, such as a label and a taint of a Node.

    It is a valid partial object of its own kind, so it renders, validates and goes through ``kubectl apply --server-side`` as
    it is. Pulumi registers it as a patch resource (``NodePatch``): deleting it gives the fields back and leaves the object.
    Its annotations force the fields over another owner's values, which a first apply needs, and tell Argo CD and Flux to
    apply it server-side and never to delete the object with it.

    Args:
        api_version: Of the object to patch.
        kind: Of the object to patch, for example ``Node``.
        name: Of the object to patch; it must exist.
        labels: Labels to set; all others stay.
        **body: Top-level fields (``spec``, ...) with nothing in them but what is to be set.
    """
    annotations = {
        _FORCE: "true",
        "argocd.argoproj.io/sync-options": "ServerSideApply=true,Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }
    return manifest(api_version, kind, name, labels=labels, annotations=annotations, **body)


def is_patch(candidate: Mapping[str, Any]) -> bool:
    """Tell whether ``candidate`` was made by `patch`."""
    return _FORCE in candidate["metadata"].get("annotations", {})
