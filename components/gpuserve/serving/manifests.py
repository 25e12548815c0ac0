"""What one served version becomes, and the values that it hands to traffic, autoscaling and monitoring."""

import re
from typing import Any

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.metadata import SERVICE_LABEL, VERSION_LABEL, Manifest, labels, manifest
from gpuserve.kubernetes.values import Endpoint, MetricsSource, ScaleTarget
from gpuserve.serving.network import network_policy_spec, service_spec
from gpuserve.serving.pod import pod_template, runtime_pod, termination_seconds
from gpuserve.serving.spec import ServingSpec

_OLD_REVISIONS = 3
"""ReplicaSets kept for ``kubectl rollout undo``; Kubernetes' own 10 are clutter where the stack's history is the record."""

MAX_NAME = 63
"""Longest name of a Service (RFC 1035)."""


def manifests(name: str, spec: ServingSpec) -> dict[str, Manifest]:
    """Return the objects of one served version, in the order in which they are registered.

    Args:
        name: Name of every one of them in the cluster; it tells this version from all others in the namespace.
        spec: The served version.

    Raises:
        SpecError: When ``name`` cannot be a Service's name.
    """
    _check_name(name)
    selector = _selector(name, spec)
    common = _labels(name, spec)

    def own(api_version: str, kind: str, annotations: dict[str, str] | None = None, **body: Any) -> Manifest:
        namespace = spec.placement.namespace
        return manifest(api_version, kind, name, namespace=namespace, labels=common, annotations=annotations, **body)

    # Pulumi follows a rollout for as long as its replicas take, one after the other.
    timeout = {"pulumi.com/timeoutSeconds": str(_replacement_seconds(spec) * spec.replicas)}
    return {
        "account": own("v1", "ServiceAccount", automountServiceAccountToken=False),
        "network": own("networking.k8s.io/v1", "NetworkPolicy", spec=network_policy_spec(spec, selector)),
        "disruption": own("policy/v1", "PodDisruptionBudget", spec=_disruption_spec(selector)),
        "deployment": own("apps/v1", "Deployment", timeout, spec=_deployment_spec(name, spec, common, selector)),
        "service": own("v1", "Service", timeout, spec=service_spec(spec, selector)),
    }


def endpoint(name: str, spec: ServingSpec) -> Endpoint:
    """Return where requests for this version go."""
    server = runtime_pod(spec)
    return Endpoint(
        namespace=spec.placement.namespace,
        service=name,
        http_port=server.http_port,
        grpc_port=server.grpc_port,
        protocol=server.protocol,
    )


def scale_target(name: str, spec: ServingSpec) -> ScaleTarget:
    """Return the workload whose replicas an autoscaler may set; say ``autoscaled`` in the spec if one does."""
    return ScaleTarget(namespace=spec.placement.namespace, kind="Deployment", name=name)


def metrics_source(name: str, spec: ServingSpec) -> MetricsSource:
    """Return which pods' metrics describe this version."""
    return MetricsSource(
        namespace=spec.placement.namespace,
        service=spec.service,
        version=spec.version,
        runtime=spec.runtime,
        selector=_selector(name, spec),
        port="metrics",
        path=runtime_pod(spec).metrics_path,
        ensemble=spec.model if spec.ensemble else None,
    )


def _selector(name: str, spec: ServingSpec) -> dict[str, str]:
    """Return the labels that select the pods; they can never change, so nothing that may change is among them."""
    return {"app.kubernetes.io/name": spec.service, "app.kubernetes.io/instance": name}


def _labels(name: str, spec: ServingSpec) -> dict[str, str]:
    recommended = labels(name=spec.service, instance=name, component="server", version=spec.version)
    return {**recommended, SERVICE_LABEL: spec.service, VERSION_LABEL: spec.version}


def _deployment_spec(name: str, spec: ServingSpec, common: dict[str, str], selector: dict[str, str]) -> dict[str, Any]:
    """Return a Deployment that replaces one pod at a time.

    By default it never has fewer ready pods than it should: a new pod must be ready before an old one goes, so a rollout needs room
    for one pod more, in the quota too.
    """
    surge = int(spec.rollout == "surge")
    replicas = {} if spec.autoscaled else {"replicas": spec.replicas}
    return {
        **replicas,
        "minReadySeconds": spec.min_ready.whole_seconds,
        "progressDeadlineSeconds": _replacement_seconds(spec),
        "revisionHistoryLimit": _OLD_REVISIONS,
        "selector": {"matchLabels": dict(selector)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1 - surge, "maxSurge": surge}},
        "template": pod_template(name, spec, common, selector),
    }


def _disruption_spec(selector: dict[str, str]) -> dict[str, Any]:
    """Return a budget of one pod at a time.

    Counted as pods that may be away, not as pods that must stay: ``minAvailable: 1`` would keep a node with the only replica
    from ever being drained. So one replica pauses during a drain, and two or more do not. A pod that is not ready serves
    nobody and may always be evicted; else a crashing server would block the drain that could mend it.
    """
    return {"selector": {"matchLabels": dict(selector)}, "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}


def _replacement_seconds(spec: ServingSpec) -> int:
    """Return how long it may take until a replica counts as available in the place of another.

    The other one must go first where the rollout is in place, and where the one before it still holds the quota's room for a rollout.
    """
    return termination_seconds(spec) + spec.startup_timeout.whole_seconds + spec.min_ready.whole_seconds


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        reason = f"is not a DNS label of at most {MAX_NAME} characters, which a Service's name must be"
        raise SpecError.of("name", name, reason, "use lower-case letters, digits and '-', starting with a letter")
