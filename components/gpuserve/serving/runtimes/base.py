"""What a runtime must say about itself: the only things that differ between servers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class RuntimeRequest:
    """What a runtime may need to know to describe its pod.

    Attributes:
        model: Name of the model in the server.
        simulated: True when no GPU is behind the requested resource, so that the CPU build of the runtime serves.
        exit_timeout: Seconds that requests in flight may take after the server was told to stop.
        version_compatible: Whether the model is a TensorRT engine that carries the code that runs it.
    """

    model: str
    simulated: bool
    exit_timeout: int
    version_compatible: bool = False


@dataclass(frozen=True)
class RuntimePod:
    """How one runtime runs in a container.

    Attributes:
        protocol: Inference protocol that clients speak: ``v2`` (OpenInference) or ``openai``.
        http_port: Port of the HTTP API; the probes ask here too.
        grpc_port: Port of the gRPC API; ``None`` when there is none.
        metrics_port: Port of the Prometheus metrics.
        metrics_path: HTTP path of the metrics.
        loaded_path: Answers 200 once the model is loaded and warm: the startup probe.
        ready_path: Answers 200 while requests are welcome: the readiness probe.
        live_path: Answers 200 while the process can still recover: the liveness probe.
        user: Numeric user of the image; it must not be root.
        command: Container command; empty keeps the image's entrypoint.
        args: Arguments of the entrypoint or command.
        env: Environment of the container.
    """

    protocol: str
    http_port: int
    grpc_port: int | None
    metrics_port: int
    metrics_path: str
    loaded_path: str
    ready_path: str
    live_path: str
    user: int
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])


class Runtime(Protocol):
    """A server program that answers inference requests.

    A runtime stops on SIGTERM: it refuses new requests, ends those in flight within `RuntimeRequest.exit_timeout`, and exits.
    """

    @property
    def name(self) -> str:
        """How specs call it."""
        ...

    def pod(self, request: RuntimeRequest) -> RuntimePod:
        """Return how it runs."""
        ...
