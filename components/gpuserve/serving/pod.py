"""The pod of a server: one hardened container on its GPUs."""

from typing import Any

from gpuserve.serving.runtimes import RuntimePod, RuntimeRequest, runtime
from gpuserve.serving.spec import ServingSpec

_PROBE_PERIOD = 5
"""Seconds between probes: short enough to notice a failure, long enough to cost nothing."""


def runtime_pod(spec: ServingSpec) -> RuntimePod:
    """Return how the runtime of ``spec`` runs."""
    request = RuntimeRequest(
        model=spec.model,
        simulated=spec.placement.simulated,
        exit_timeout=spec.exit_timeout.whole_seconds,
        version_compatible=spec.version_compatible,
    )
    return runtime(spec.runtime).pod(request)


def pod_template(name: str, spec: ServingSpec, labels: dict[str, str], selector: dict[str, str]) -> dict[str, Any]:
    """Return the pod template of a server.

    Args:
        name: Name of its ServiceAccount.
        spec: The served version.
        labels: Labels of the pods.
        selector: Those of the labels that tell its pods from all others.
    """
    server = runtime_pod(spec)
    pod: dict[str, Any] = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(server),
        "terminationGracePeriodSeconds": termination_seconds(spec),
        "topologySpreadConstraints": [
            _spread("topology.kubernetes.io/zone", selector),
            _spread("kubernetes.io/hostname", selector),
        ],
        "containers": [_container(spec, server)],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(spec.resources.shm)}},
            {"name": "scratch", "emptyDir": {"sizeLimit": str(spec.resources.scratch)}},
        ],
    }
    if spec.placement.node_selector:
        pod["nodeSelector"] = dict(spec.placement.node_selector)
    if spec.placement.tolerations:
        pod["tolerations"] = [dict(toleration) for toleration in spec.placement.tolerations]
    metadata: dict[str, Any] = {"labels": dict(labels)}
    if spec.discovery == "annotations":
        metadata["annotations"] = _scrape_annotations(server)
    return {"metadata": metadata, "spec": pod}


def _scrape_annotations(server: RuntimePod) -> dict[str, str]:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/path": server.metrics_path,
        "prometheus.io/port": str(server.metrics_port),
    }


def _container(spec: ServingSpec, server: RuntimePod) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "server",
        "image": spec.image,
        "ports": [{"name": name, "containerPort": port} for name, port in _ports(server).items()],
        "env": [{"name": name, "value": value} for name, value in {"HOME": "/tmp", **server.env}.items()],  # noqa: S108 - the scratch volume
        "resources": _resources(spec),
        "startupProbe": _startup_probe(spec, server),
        "readinessProbe": _probe(server.ready_path, failures=2),
        "livenessProbe": _probe(server.live_path, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": spec.drain.whole_seconds}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - where the C library looks
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a volume of this pod alone
        ],
    }
    if server.command:
        container["command"] = list(server.command)
    if server.args:
        container["args"] = list(server.args)
    return container


def _ports(server: RuntimePod) -> dict[str, int]:
    ports = {"http": server.http_port, "grpc": server.grpc_port, "metrics": server.metrics_port}
    return {name: port for name, port in ports.items() if port is not None}


def _resources(spec: ServingSpec) -> dict[str, Any]:
    fixed = {"memory": str(spec.resources.memory), spec.placement.resource: str(spec.gpus)}
    return {"requests": {"cpu": str(spec.resources.cpu), **fixed}, "limits": dict(fixed)}


def _probe(path: str, *, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": _PROBE_PERIOD,
        "timeoutSeconds": _PROBE_PERIOD,
        "failureThreshold": failures,
    }


def _startup_probe(spec: ServingSpec, server: RuntimePod) -> dict[str, Any]:
    """Ask every second, so that a small model is ready as soon as it is loaded, for as long as a large one may take."""
    return _probe(server.loaded_path, failures=spec.startup_timeout.whole_seconds) | {"periodSeconds": 1}


def _pod_security(server: RuntimePod) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": server.user,
        "runAsGroup": server.user,
        "fsGroup": server.user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _spread(topology: str, selector: dict[str, str]) -> dict[str, Any]:
    """Spread replicas where there is room to: a preference, since a full zone must not keep a replica from starting."""
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def termination_seconds(spec: ServingSpec) -> int:
    """Return the grace period: it covers the preStop sleep, the requests in flight, and a moment to exit."""
    return spec.drain.whole_seconds + spec.exit_timeout.whole_seconds + _PROBE_PERIOD
