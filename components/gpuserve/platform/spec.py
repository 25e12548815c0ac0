"""What a stack file may say: which pools there are and which services run on them, and how big."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from gpuserve.autoscaling.spec import QueueTime, Rate, Replicas, ScaleDownWindow
from gpuserve.kubernetes.identifiers import DnsLabel, HostName, LabelKey, LabelValue, Namespace, UrlPath
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import Bytes, Cpu, Duration, Percent
from gpuserve.kubernetes.values import Discovery
from gpuserve.monitoring.spec import RateWindow, StackName
from gpuserve.node_pool.spec import NodePoolSpec, WholeGpus
from gpuserve.serving.spec import Drain, Network, Rollout, StartupTimeout
from gpuserve.traffic.spec import GatewaySpec, RequestTimeout, TlsSpec, Weight, require_whole
from gpuserve_images.builder.spec import LOCAL, Builder


class VersionSpec(Spec):
    """One version of a model behind a service.

    Attributes:
        build: Name of a build in the model's file.
        weight: Share of the requests, in percent; the weights of a service add up to 100.
    """

    build: DnsLabel
    weight: Weight


class MirrorSpec(Spec):
    """Copies of requests for a version whose answers nobody waits for.

    Attributes:
        to: The version that receives the copies.
        percent: Share of the requests that is copied; default all.
    """

    to: DnsLabel
    percent: Percent = Percent(100)


class ServiceTrafficSpec(Spec):
    """How requests reach a service.

    Attributes:
        host: Host name that clients send. Services share one with a path each, at one Gateway that exists, or where each makes its own for
            Traefik, whose Gateways have one address; of Gateways of others each has its own.
        path: URL prefix, taken off before a server sees it; default everything. Gateways route HTTP alone: gRPC has paths of its
            own, so its clients ask a version's Service, on port 8001, from namespaces that the service names under ``clients``.
        mirror: Shadow traffic; default none.
        timeout: Longest time for a whole request; default 300 s, enough for a cold model and short of common proxies' limits. Where a
            request may take longer than 40 s, raise the service's ``drain`` too.
        tls: Where the certificate comes from; default none.
        gateway: The Gateway to make or to attach to.
    """

    host: HostName
    path: UrlPath = "/"
    mirror: MirrorSpec | None = None
    timeout: RequestTimeout = Duration("300s")
    tls: TlsSpec = TlsSpec()
    gateway: GatewaySpec = GatewaySpec()


def _fewest(scale: dict[str, Any]) -> int:
    return scale.get("min", 1)


class ScaleSpec(Spec):
    """Between how many replicas each version scales, and on what.

    Attributes:
        min: Fewest replicas of each version; default 1.
        max: Most replicas of each version; default ``min``, which means no autoscaler.
        queue_time: Scale when requests wait longer than this for a free instance, on average.
        qps: Scale when a replica answers more requests per second than this; give one of the two, or neither: then the target is
            80 % of what the image was measured to answer within its model's SLO.
        scale_down_window: How long it must be quiet before replicas are removed; default 300 s, Kubernetes' own default. With
            ``queue_time`` a tenth of them, or one, is removed per window: a short queue does not say how many would be enough.
    """

    min: Replicas = 1
    max: Replicas = Field(default_factory=_fewest)
    queue_time: QueueTime | None = None
    qps: Rate | None = None
    scale_down_window: ScaleDownWindow = Duration("300s")

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals that are named."""
        return tuple(name for name in ("queue_time", "qps") if getattr(self, name) is not None)

    @field_validator("max")
    @classmethod
    def _max_not_below_min(cls, value: int, info: ValidationInfo) -> int:
        least = _fewest(info.data)
        if value < least:
            msg = f"is below min ({least}); set max to at least {least} or lower min"
            raise ValueError(msg)
        return value


class ResourcesSpec(Spec):
    """What each replica gets beside its GPU.

    Attributes:
        gpus: Whole GPUs per replica; default 1.
        cpu: Requested processor time; default 100m, and there is no limit.
        memory: Memory, requested and limited alike; default 2Gi, of which ``/dev/shm`` may take 512Mi.
    """

    gpus: Annotated[WholeGpus, Field(ge=1, le=16)] = 1
    cpu: Cpu | None = None
    memory: Bytes | None = None


class ServiceSpec(Spec):
    """One model, served at one host by one or more versions.

    Attributes:
        name: Name of the service and of its objects in the cluster.
        model: Name of the model's file in the models folder; default the service's name.
        pool: Name of the pool it runs on.
        runtime: The server; default Triton.
        versions: Builds to serve and their weights.
        prebuild: Further builds to make and push, not served (an engine for another GPU, say).
        traffic: Host, mirror, timeout, TLS.
        scale: Replicas.
        resources: Size of a replica.
        startup_timeout: Longest time for one replica to become ready; default 300s. A server that takes longer is started again, and `up`
            gives up: raise it for models whose weights take minutes to load.
        drain: How long a server that is replaced, or scaled away, still works at what it was asked; 30 s later its requests are cut. For
            all of that time it keeps its GPU. Default 10s, so no request of up to 40 s is lost; for longer ones their length.
        rollout: How replicas are replaced. ``surge``, the default, starts a new one before an old one goes, and the quota must have room
            for it; ``in-place`` stops the old one first, for pools without a spare GPU. A build that takes over from another, and a service
            under a new name, are servers beside the old ones in either case, which go when the new ones are ready: where the quota has no
            room for both, raise it, or take the old one away in an update of its own.
        clients: Namespaces whose pods may ask a version's Service (``<service>-<build>`` in the pool's namespace) past the gateway, and so past
            weights and mirror: gRPC clients must. Default none: a NetworkPolicy lets the gateway in alone.
    """

    name: DnsLabel
    model: DnsLabel | None = None
    pool: DnsLabel
    runtime: Literal["triton"] = "triton"
    versions: Annotated[tuple[VersionSpec, ...], Field(min_length=1)]
    prebuild: tuple[DnsLabel, ...] = ()
    traffic: ServiceTrafficSpec
    scale: ScaleSpec = ScaleSpec()
    resources: ResourcesSpec = ResourcesSpec()
    startup_timeout: StartupTimeout = Duration("300s")
    drain: Drain = Duration("10s")
    rollout: Rollout = "surge"
    clients: tuple[Namespace, ...] = ()

    @property
    def model_name(self) -> str:
        """Name of the model's file, and of the model in the server."""
        return self.model or self.name

    def server(self, build: str) -> str:
        """Return the name of a version's Deployment, Service and autoscaler."""
        return f"{self.name}-{build}"

    @field_validator("versions")
    @classmethod
    def _whole(cls, versions: tuple[VersionSpec, ...]) -> tuple[VersionSpec, ...]:
        require_whole("build", [(version.build, version.weight) for version in versions])
        return versions


class MonitoringSection(Spec):
    """What is watched, and how it is handed to Prometheus and Grafana.

    Attributes:
        stack: What the rules, PodMonitors and dashboard of the stack are called after, and the label ``stack`` of what they record per
            service; default the stack's name. To be given where two projects have stacks of one name on one Prometheus.
        alerts: Alerts on each service's SLO: its error budget burns too fast, or no server of it, or of a version with a weight, is left; default
            on.
        dashboards: A Grafana dashboard as a ConfigMap that Grafana's sidecar loads; default on.
        discovery: ``annotations`` (default) for a plain Prometheus that discovers pods, ``operator`` for prometheus-operator, whose
            PodMonitors choose pods that then carry no annotations.
        namespace: Where Prometheus runs; default ``monitoring``.
        window: Rate window of the recorded series, at least four scrape intervals; default 1 m, for scrapes every 15 s.
        labels: More labels for PodMonitor and PrometheusRule, by which a Prometheus of the operator chooses them: for
            kube-prometheus-stack ``release`` with the name of its release. Default none.
    """

    stack: StackName | None = None
    alerts: StrictBool = True
    dashboards: StrictBool = True
    discovery: Discovery = "annotations"
    namespace: Namespace = "monitoring"
    window: RateWindow = Duration("1m")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict[str, str])


class PlatformSpec(Spec):
    """Everything of one environment: the object under ``gpuserve:platform`` in a stack file.

    Attributes:
        registry: Where images are pushed and pulled, as ``host[:port]/path``.
        models: Folder of the model files, relative to the stack files; default ``models``.
        pools: Groups of GPU nodes.
        services: What is served on them.
        builder: Where images are built: `local` (default), or `job` for a Job in the cluster, with options.
        monitoring: What is watched.
        gateway_namespace: Namespace of the gateway's pods, which may reach the servers; default ``gateway-system``. It may be a pool's
            where the class is one that puts a Gateway's pods beside it, as Istio's does.
        gateway_networks: Networks whose addresses may reach them too: those of a gateway that runs on its node's network.
        environment: What kind it is. In ``prod`` a service without TLS on a Gateway of its own, and one with fewer than two replicas of
            a version, are refused. Default ``dev``.
    """

    registry: Annotated[str, Field(pattern=r"^([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?(/[a-z0-9._-]+)*$")]
    models: str = "models"
    pools: Annotated[tuple[NodePoolSpec, ...], Field(min_length=1)]
    services: Annotated[tuple[ServiceSpec, ...], Field(min_length=1)]
    builder: Builder = LOCAL
    monitoring: MonitoringSection = MonitoringSection()
    gateway_namespace: Namespace = "gateway-system"
    gateway_networks: tuple[Network, ...] = ()
    environment: Literal["local", "dev", "staging", "prod"] = "dev"

    @property
    def pools_by_name(self) -> dict[str, NodePoolSpec]:
        """The pools by their names."""
        return {pool.name: pool for pool in self.pools}
