"""What may be said about one served version of a model."""

from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from gpuserve.kubernetes.identifiers import DnsLabel, Namespace
from gpuserve.kubernetes.image_names import ImageInput
from gpuserve.kubernetes.spec import Spec, known_at_plan_time
from gpuserve.kubernetes.units import Bytes, Cpu, Duration, GpuCount
from gpuserve.kubernetes.values import Discovery, Placement
from gpuserve.serving.runtimes import runtime

_HOUR = 3600
_DAY = 24 * _HOUR


def _known_runtime(name: str) -> str:
    runtime(name)
    return name


def _network(value: str) -> str:
    try:
        network = ip_network(value)
    except ValueError as error:
        raise ValueError(f"is no network ({error}); write for example '10.0.0.0/16'") from error
    if value.rpartition("/")[2] != str(network.prefixlen):
        raise ValueError(f"is not in CIDR notation, which Kubernetes wants; write '{network}'")
    return value


def _within_a_day(timeout: Duration) -> Duration:
    if not 1 <= timeout.seconds <= _DAY:
        raise ValueError("is not between 1s and 24h; large models take some minutes, write for example 20m")
    return timeout


def _within_an_hour(drain: Duration) -> Duration:
    if not 1 <= drain.seconds <= _HOUR:
        raise ValueError("is not between 1s and 1h, which a pod that goes keeps its GPU; write for example 120s")
    return drain


RuntimeName = Annotated[str, BeforeValidator(known_at_plan_time), AfterValidator(_known_runtime)]
"""A name from `gpuserve.serving.runtimes.RUNTIMES`."""

ModelName = Annotated[str, BeforeValidator(known_at_plan_time), Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*$", max_length=128)]
"""A model's name in the server: it becomes part of URLs."""

Network = Annotated[str, BeforeValidator(known_at_plan_time), AfterValidator(_network)]
"""An IP network in CIDR notation."""


StartupTimeout = Annotated[Duration, AfterValidator(_within_a_day)]
"""The longest start of one replica."""

Drain = Annotated[Duration, AfterValidator(_within_an_hour)]
"""How long a pod that must go still serves."""

Rollout = Annotated[Literal["surge", "in-place"], BeforeValidator(known_at_plan_time)]
"""How a version's pods are replaced: ``surge`` starts a new one before an old one goes, which takes room for one more; ``in-place``
stops the old one first, for pools without a spare GPU."""


class ServerResources(Spec):
    """What one replica gets beside its GPUs.

    Attributes:
        cpu: Requested processor time. There is no limit: a throttled server answers late, an idle core helps nobody. Default
            100m, because a GPU does the work and requests that no node can hold leave the pod pending.
        memory: Memory, requested and limited alike, so that the node never promises it twice. ``shm`` and ``scratch`` use
            counts into it where they lie in memory. Default 2Gi.
        shm: Most of that memory that ``/dev/shm`` may take; Triton's Python backend passes tensors there. Default 512Mi, where
            containers without it get 64Mi.
        scratch: Most disk that ``/tmp``, the only other writable folder, may take. Default 1Gi.
    """

    cpu: Cpu = Cpu("100m")
    memory: Bytes = Bytes("2Gi")
    shm: Bytes = Bytes("512Mi")
    scratch: Bytes = Bytes("1Gi")

    @model_validator(mode="after")
    def _shm_fits(self) -> Self:
        if self.shm > self.memory:
            raise ValueError(
                f"shm is {self.shm}, but memory is {self.memory}, and /dev/shm is part of that memory; "
                "raise memory above shm, or lower shm"
            )
        return self


class ServingSpec(Spec):
    """One version of a model, served by one runtime.

    Attributes:
        service: The service that this is a version of.
        version: Which version; a word of yours, such as the name of the model's build.
        model: The name by which clients call the model in the server.
        image: Image with the model inside, by digest; may be a Pulumi Output.
        placement: Where it runs: the ``placement`` of a `GpuNodePool`.
        runtime: Which server. Default ``triton``.
        replicas: Pods; where an autoscaler owns that number, only how many the time for a rollout is reckoned with. Default 1.
        autoscaled: True when an autoscaler sets the replicas: the Deployment then names none, so that an update of the stack
            does not undo the autoscaler. Kubernetes begins with 1; switching this on sets a running one back to 1 for once.
        gpus: Whole GPUs per replica, requested and limited alike. Default 1.
        resources: Processor time and memory of a replica.
        startup_timeout: Longest time for one replica to become ready: image, model, warm-up. The container is restarted when
            its server takes longer, and an update of the stack gives up after it. Default 300s.
        drain: How long a pod that must go still serves: every gateway takes it off its list meanwhile, and what it is at goes on. It
            keeps its GPU for all of that time. Default 10s.
        exit_timeout: How long requests in flight may take after that. Default 30s: Triton waits for as long while a connection is
            open, though nothing is asked on it any more. So requests that take longer are what ``drain`` is raised for.
        min_ready: How long a new pod must stay ready before an old one goes. Default 5s.
        rollout: ``surge``: a new pod is ready before an old one goes, so that no request is lost; the quota and the nodes must have room
            for one more. ``in-place``: an old pod goes first, so that a pool without a spare GPU can be updated; meanwhile one replica
            is missing, and the only one of a version leaves it without an answer until its successor is ready. Default ``surge``.
        version_compatible: Let the server run the code that TensorRT engines of ``compile: {version_compatible: true}`` carry, which
            is for images that you trust. `Platform` takes it from the version's build. Default false.
        ensemble: Whether ``model`` is an ensemble: its models in the same server count its requests too, and a client's request is to
            be counted once. `Platform` takes it from the model's file. Default false.
        clients: Namespaces whose pods may send requests: the gateway's, and those of clients that ask the Service themselves, as over
            gRPC. Default ``gateway-system``.
        client_networks: Networks that may send requests, for a gateway on its node's network, which no namespace selector
            matches. Default none.
        monitoring: Namespace whose pods may read the metrics. Default ``monitoring``.
        discovery: How Prometheus finds the pods, as the `MonitoringStack` says: ``annotations`` that they carry, or by a PodMonitor,
            ``operator``, and then they carry none: a Prometheus that looks for both would count each pod twice. Default
            ``annotations``.
    """

    service: DnsLabel
    version: DnsLabel
    model: ModelName
    image: ImageInput
    placement: Placement
    runtime: RuntimeName = "triton"
    replicas: Annotated[int, BeforeValidator(known_at_plan_time), Field(ge=1, le=10_000, strict=True)] = 1
    autoscaled: Annotated[StrictBool, BeforeValidator(known_at_plan_time)] = False
    gpus: Annotated[GpuCount, Field(ge=1)] = 1
    resources: ServerResources = ServerResources()
    startup_timeout: StartupTimeout = Duration("300s")
    drain: Drain = Duration("10s")
    exit_timeout: Duration = Duration("30s")
    min_ready: Duration = Duration("5s")
    rollout: Rollout = "surge"
    version_compatible: Annotated[StrictBool, BeforeValidator(known_at_plan_time)] = False
    ensemble: Annotated[StrictBool, BeforeValidator(known_at_plan_time)] = False
    clients: tuple[Namespace, ...] = ("gateway-system",)
    client_networks: tuple[Network, ...] = ()
    monitoring: Namespace = "monitoring"
    discovery: Annotated[Discovery, BeforeValidator(known_at_plan_time)] = "annotations"
