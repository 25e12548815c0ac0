"""What may be said about a pool of GPU nodes."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpuserve.kubernetes.identifiers import DnsLabel, LabelKey, LabelValue, Namespace, NodeName
from gpuserve.kubernetes.spec import Spec, known_at_plan_time
from gpuserve.kubernetes.units import Bytes, Cpu, GpuCount
from gpuserve.node_pool.accelerators import accelerator


def _whole(value: object) -> object:
    """Answer a wish for part of a GPU before the number type can only say "not an integer"."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(
            "is a fraction, and Kubernetes counts nvidia.com/gpu in whole devices only; "
            "write a whole number: a GPU is shared by MIG, time-slicing or MPS, which the device plugin then offers as devices"
        )
    return int(value) if isinstance(value, float) else value


def _known_accelerator(name: str) -> str:
    return accelerator(name).name


AcceleratorName = Annotated[str, BeforeValidator(known_at_plan_time), AfterValidator(_known_accelerator)]
"""A name from `gpuserve.node_pool.accelerators.ACCELERATORS`; the product that stands for it is replaced by it."""


def _nobody_elses(namespace: str) -> str:
    if namespace == "default" or namespace.startswith("kube-"):
        raise ValueError(
            "is a namespace of Kubernetes' own, and a pool owns its namespace: it would restrict all pods there, and be deleted with the "
            "pool; write one that nothing else is in, or leave `namespace:` out"
        )
    return namespace


OwnNamespace = Annotated[Namespace, AfterValidator(_nobody_elses)]
"""A namespace that a pool makes, and deletes."""


def _named_after_the_pool(known: dict[str, Any]) -> str:
    return f"gpuserve-{known['name']}"


WholeGpus = Annotated[GpuCount, BeforeValidator(_whole)]
"""A number of GPUs; a fraction is refused with what to do instead."""


class QuotaSpec(Spec):
    """The most that all pods of the pool's namespace may request together.

    Attributes:
        gpus: GPUs. Each replica takes its GPUs from here, and a rollout needs those of one replica more for a while,
            unless the service says ``rollout: in-place``.
        cpu: Processor cores. Default: not limited.
        memory: Memory. Default: not limited.
    """

    gpus: WholeGpus
    cpu: Cpu | None = None
    memory: Bytes | None = None


class TolerationSpec(Spec):
    """A taint of the pool's nodes that its pods tolerate.

    Attributes:
        key: The taint's key.
        value: Its value. Default: any.
        effect: ``NoSchedule``, ``PreferNoSchedule`` or ``NoExecute``. Default: all of them.
    """

    key: LabelKey
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class NodePoolSpec(Spec):
    """A set of GPU nodes, and the namespace whose pods may use them.

    A node pool declares who uses nodes that exist; it creates no machines.

    Attributes:
        name: Name of the pool; services choose it by this name. Stacks that share a cluster have pools of different names.
        accelerator: GPU product, such as ``A100-SXM4-80GB`` or ``L4``, or as the nodes' label ``nvidia.com/gpu.product`` writes it, such as
            ``NVIDIA-L4``; ``simulated`` for devices without a GPU behind them.
        gpus: How many GPUs the pool's nodes have together.
        quota: What the pods of the pool's namespace may request together.
        namespace: Namespace of its pods, which the pool makes and owns: it admits restricted pods alone, and goes with the pool and all
            that is in it, so nothing of others belongs there. Default ``gpuserve-<name>``.
        nodes: Names of nodes to reserve: each gets the label ``gpuserve.io/pool`` and the taint ``nvidia.com/gpu=present:NoSchedule``
            in place of the taints that it had (a node's taints are one value to the API server). Default none: the pool uses
            any node with the accelerator's product label as it is.
        node_selector: Labels of the pool's nodes, in place of ``nvidia.com/gpu.product``: for nodes without NVIDIA's feature discovery
            (GKE: ``cloud.google.com/gke-accelerator: nvidia-l4``), and for GPUs that are shared, whose product it writes with
            ``-SHARED`` or ``-MIG-1g.10gb`` after it. Default none. Not with ``nodes``, which have a label of the pool's own.
        tolerations: Taints of the nodes beside ``nvidia.com/gpu:NoSchedule``, which is always tolerated. Default none.
        labels: More labels for the namespace, such as a cost centre. Default none.
    """

    name: DnsLabel
    accelerator: AcceleratorName
    gpus: Annotated[WholeGpus, Field(ge=1)]
    quota: QuotaSpec
    namespace: OwnNamespace = Field(default_factory=_named_after_the_pool)
    nodes: tuple[NodeName, ...] = ()
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict[str, str])
    tolerations: tuple[TolerationSpec, ...] = ()
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict[str, str])

    @model_validator(mode="after")
    def _quota_fits(self) -> Self:
        if self.quota.gpus > self.gpus:
            raise ValueError(
                f"quota.gpus is {self.quota.gpus}, but gpus is {self.gpus}: the quota promises devices that the pool has not; "
                f"set quota.gpus to {self.gpus} or less, or correct gpus"
            )
        if len(set(self.nodes)) != len(self.nodes):
            raise ValueError("nodes names a node twice; name each once")
        if self.nodes and self.node_selector:
            raise ValueError(
                "names nodes and a node_selector, and one of the two chooses; remove one: nodes get a label of the pool's own"
            )
        return self
