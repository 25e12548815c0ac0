"""What runs, for programs and people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuserve_embedded.cluster import addons, containerd, control_plane, node, processes, registry
from gpuserve_embedded.cluster.api import Api
from gpuserve_embedded.cluster.cleanup import leftovers
from gpuserve_embedded.cluster.layout import (
    API_SERVER,
    GATEWAY_HTTP,
    GATEWAY_HTTPS,
    KUBECONFIG,
    NODE,
    PROMETHEUS,
    REGISTRY,
)


@dataclass(frozen=True)
class DaemonStatus:
    """A daemon of the cluster.

    Attributes:
        name: its name, which is its log's too.
        pid: its process id; None where it does not run.
        serves: whether it answers its health check.
        log: its log file.
    """

    name: str
    pid: int | None
    serves: bool
    log: Path


@dataclass(frozen=True)
class PodStatus:
    """A pod of the cluster.

    Attributes:
        namespace: its namespace.
        name: its name.
        phase: ``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Unknown``.
        ready: whether it takes requests.
    """

    namespace: str
    name: str
    phase: str
    ready: bool


@dataclass(frozen=True)
class ClusterStatus:
    """The cluster at one moment.

    Attributes:
        daemons: each daemon.
        pods: each pod, the system's and the user's.
        gpus: GPUs that pods on the node may have.
        wanting: what is not ready yet, in words; None where everything is.
        exists: what of the cluster is on this machine, in words; empty after a complete stop.
        kubeconfig: the administrator's kubeconfig, once the cluster is started.
        api_server: address of Kubernetes' API.
        registry: the local registry's host and port, as image references begin.
        gateway_http: address of the gateway's plain listener.
        gateway_https: address of its listener with TLS.
        prometheus: address of Prometheus.
    """

    daemons: tuple[DaemonStatus, ...]
    pods: tuple[PodStatus, ...]
    gpus: int
    wanting: str | None
    exists: tuple[str, ...]
    kubeconfig: Path = KUBECONFIG
    api_server: str = API_SERVER
    registry: str = REGISTRY
    gateway_http: str = GATEWAY_HTTP
    gateway_https: str = GATEWAY_HTTPS
    prometheus: str = PROMETHEUS

    @property
    def ready(self) -> bool:
        """Whether the whole cluster is ready."""
        return self.wanting is None


def status() -> ClusterStatus:
    """Return what runs at this moment; changes nothing and raises nothing where nothing runs."""
    found = tuple(
        DaemonStatus(
            daemon.name,
            pid := processes.pid_of(daemon),
            pid is not None and daemon.is_healthy(),
            daemon.log,
        )
        for daemon in daemons(Path("kube"))
    )
    silent = [daemon.name for daemon in found if not daemon.serves]
    if silent:
        wanting = "the cluster is stopped" if len(silent) == len(found) else f"{', '.join(silent)}: not serving"
        return ClusterStatus(found, (), 0, wanting, tuple(leftovers()))
    api = Api()
    this_node = api.get(f"/api/v1/nodes/{NODE}")
    return ClusterStatus(
        found,
        tuple(_pod(pod) for pod in (api.get("/api/v1/pods") or {}).get("items", [])),
        addons.gpus(this_node) if this_node else 0,
        addons.wanting(api),
        tuple(leftovers()),
    )


def daemons(kube: Path) -> tuple[processes.Daemon, ...]:
    """Return every daemon, in the order of their start.

    Args:
        kube: the program that holds all of Kubernetes.
    """
    return (
        *registry.daemons(),
        control_plane.etcd(),
        control_plane.api_server(kube),
        control_plane.controller_manager(kube),
        control_plane.scheduler(kube),
        containerd.daemon(),
        node.kubelet(kube),
        node.kube_proxy(kube),
    )


def daemons_serve() -> bool:
    """Return whether every daemon runs and answers its health check."""
    return all(processes.pid_of(daemon) is not None and daemon.is_healthy() for daemon in daemons(Path("kube")))


def _pod(pod: dict[str, Any]) -> PodStatus:
    metadata = pod["metadata"]
    return PodStatus(metadata["namespace"], metadata["name"], pod["status"]["phase"], addons.has_condition(pod, "Ready"))
