"""The small frozen values that components hand each other, one way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Discovery = Literal["annotations", "operator"]
"""How Prometheus finds pods: by the annotations ``prometheus.io/...`` that they carry, or by PodMonitors of prometheus-operator."""


@dataclass(frozen=True)
class Placement:
    """Where a server may run: what a pool hands to a serving stack.

    Attributes:
        pool: The pool's name.
        namespace: Namespace that holds the pool's quota.
        node_selector: Labels a node must have.
        tolerations: Taints of the pool's nodes that a pod must tolerate.
        resource: Extended resource to request, such as ``nvidia.com/gpu``.
        architecture: Compute architecture of the GPUs (``sm_80``); ``None`` when simulated.
        simulated: True when there is no real GPU behind the resource, so the CPU runtime serves.
    """

    pool: str
    namespace: str
    node_selector: Mapping[str, str] = field(default_factory=dict[str, str])
    tolerations: tuple[Mapping[str, Any], ...] = ()
    resource: str = "nvidia.com/gpu"
    architecture: str | None = None
    simulated: bool = False


@dataclass(frozen=True)
class Endpoint:
    """A Kubernetes Service that answers inference requests.

    Attributes:
        namespace: Namespace of the Service.
        service: Its name; within the cluster clients ask ``<service>.<namespace>``.
        http_port: Its port for HTTP.
        grpc_port: Its port for gRPC; ``None`` when there is none.
        protocol: Inference protocol that it speaks: ``v2`` (OpenInference) or ``openai``.
    """

    namespace: str
    service: str
    http_port: int
    grpc_port: int | None
    protocol: str


@dataclass(frozen=True)
class ScaleTarget:
    """A workload whose replicas an autoscaler may set.

    Attributes:
        namespace: Its namespace.
        kind: ``Deployment`` or ``StatefulSet``.
        name: Its name.
    """

    namespace: str
    kind: str
    name: str


@dataclass(frozen=True)
class MetricsSource:
    """Pods whose metrics describe one model version.

    Attributes:
        namespace: Namespace of the pods.
        service: The gpuserve service they belong to.
        version: The model version they serve.
        runtime: Which runtime's metric names they export.
        selector: Labels of the pods.
        port: Name of the container port that serves metrics.
        path: HTTP path of the metrics.
        ensemble: The model that clients ask, where the server runs others for it that its metrics count too; default none.
    """

    namespace: str
    service: str
    version: str
    runtime: str
    selector: Mapping[str, str]
    port: str
    path: str = "/metrics"
    ensemble: str | None = None
