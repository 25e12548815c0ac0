"""What may be said about how a server runs a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from gpuserve.kubernetes.identifiers import DnsLabel
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import WHOLE, Bytes, Duration

if TYPE_CHECKING:
    from gpuserve_images.onnx_model.signature import Signature

Warmup = Literal["zeros", "samples", "none"]
Kind = Literal["cpu", "gpu"]

_LARGEST_NUMBER = 2**63 - 1
"""Of a version: servers keep it as a signed integer of 64 bits."""

_LARGEST_GPU = 2**31 - 1
"""Index of a GPU: signed, of 32 bits, in Triton's configuration."""

_LONGEST_DELAY = Duration("1h")
"""That a request may wait for company: far beyond what any client or gateway waits, and within what every server's configuration can hold."""

Key = Annotated[int, Field(ge=1, le=_LARGEST_NUMBER)]
"""Number of a version as a key, which JSON has as a text."""

Number = Annotated[int, Field(ge=1, le=_LARGEST_NUMBER, strict=True), WHOLE]
"""Number of a version."""


class BatchSpec(Spec):
    """How requests are joined into batches; `batch: none` where they must not be.

    Attributes:
        axis: Which axis holds the requests of a batch: the `first` (default), where it is free in every input and output; or `none`, where
            it holds something else, such as the points of a cloud or the samples of a sound, which would be mixed with those of others.
            It is an axis as any other then, whose size samples, `verify.generate.shapes` and `profiles` say.
        max: Largest batch. Default 32. Ignored by a model without a batch axis.
        preferred: Batch sizes worth waiting for. Default: 8, or the largest where that is smaller.
        queue_delay: Longest that a request waits for company, up to 1h. Default 1ms: far below common latency targets.
    """

    axis: Literal["first", "none"] = "first"
    max: Annotated[int, Field(ge=1, le=65536, strict=True), WHOLE] = 32
    preferred: tuple[Annotated[int, Field(ge=1, strict=True), WHOLE], ...] = ()
    queue_delay: Duration = Duration("1ms")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(size > self.max for size in self.preferred):
            msg = f"prefers {list(self.preferred)} above the largest batch {self.max}; raise `max` or lower `preferred`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _answered_in_time(self) -> Self:
        if self.queue_delay.seconds > _LONGEST_DELAY.seconds:
            msg = f"lets a request wait {self.queue_delay} for company, and {_LONGEST_DELAY} is the most; write a `queue_delay` such as 5ms"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _nothing_about_no_batches(self) -> Self:
        said = sorted(self.chosen().keys() - {"axis"})
        if self.axis == "none" and said:
            msg = f"has no batch axis, so {said} would have no effect; remove them, or `axis: none`"
            raise ValueError(msg)
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The preferred batch sizes, ascending."""
        return tuple(sorted(set(self.preferred))) or (min(8, self.max),)

    @property
    def joins(self) -> bool:
        """Whether a server may join requests at all."""
        return self.axis == "first" and self.max > 1

    def seen(self, signature: "Signature") -> "Signature":
        """Return a signature as these words have it: without a batch axis where there is none."""
        return signature.model_copy(update={"alone": self.axis == "none"})


class InstanceSpec(Spec):
    """Copies of a model that run side by side.

    Attributes:
        count: How many; on GPUs, how many on each. Default 1.
        kind: `cpu` or `gpu`. Default: what the pool has.
        gpus: Which GPUs, by index. Default: all that the server sees.
    """

    count: Annotated[int, Field(ge=1, le=1024, strict=True), WHOLE] = 1
    kind: Kind | None = None
    gpus: tuple[Annotated[int, Field(ge=0, le=_LARGEST_GPU, strict=True), WHOLE], ...] = ()

    @model_validator(mode="after")
    def _gpus_are_for_gpus(self) -> Self:
        if self.gpus and self.kind == "cpu":
            msg = f"runs on the CPU, but names GPUs {list(self.gpus)}; remove `gpus:` or write `kind: gpu`"
            raise ValueError(msg)
        return self


Threads = Annotated[int, Field(ge=0, le=1024, strict=True), WHOLE] | None


class ThreadsSpec(Spec):
    """Threads of ONNX Runtime inside one instance.

    Attributes:
        intra_op: Threads inside one operator; 0 means one per core. Default: the server's own (1 in the CPU image, where several
            instances run side by side; one per core in NVIDIA's).
        inter_op: Threads across operators. Default: the server's own.
    """

    intra_op: Threads = None
    inter_op: Threads = None


class TensorRtExecution(Spec):
    """TensorRT inside ONNX Runtime, which compiles the parts of an ONNX model that it can when the server starts.

    Attributes:
        precision: `fp32` (default), `fp16`, or `int8` for models that carry their own Q/DQ nodes.
        workspace: Most memory that TensorRT may use while it compiles. Default 1Gi, the back end's own.
    """

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    workspace: Bytes = Bytes("1Gi")


class VersionsSpec(Spec):
    """Which of the versions in the image a server offers: exactly one of the three.

    Attributes:
        latest: The newest so many.
        all: All of them.
        only: These numbers.
    """

    # Unsigned, of 32 bits, in the configurations of Triton and TensorFlow Serving.
    latest: Annotated[int, Field(ge=1, le=2**32 - 1, strict=True), WHOLE] | None = None
    all: StrictBool = False
    only: tuple[Number, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum((self.latest is not None, self.all, bool(self.only))) != 1:
            msg = "is no single policy; write `all`, `{latest: 2}` or `{only: [1, 3]}`"
            raise ValueError(msg)
        return self

    def offered(self, present: Mapping[int, object]) -> tuple[int, ...]:
        """Return the version numbers that a server offers of those present, ascending."""
        ordered = tuple(sorted(present))
        if self.latest is not None:
            return ordered[-self.latest :]
        return ordered if self.all else tuple(sorted(set(self.only)))


class StepSpec(Spec):
    """One model of an ensemble.

    Attributes:
        model: Name of the model: this one, or another whose YAML file lies beside this one's.
        build: Which of its builds; required for another model.
        inputs: For each input of the model, the tensor of the ensemble that it takes.
        outputs: For each output that is used, the name of the tensor that it becomes.
    """

    model: DnsLabel
    build: DnsLabel | None = None
    inputs: Annotated[Mapping[str, str], Field(min_length=1)]
    outputs: Annotated[Mapping[str, str], Field(min_length=1)]


class EnsembleSpec(Spec):
    """Several models that answer as one; tensors go from one to the next inside the server.

    Types and shapes are those of the models, so only names are said here.

    Attributes:
        name: Name that clients call it by.
        inputs: Tensors that a request brings.
        outputs: Tensors that the answer holds.
        steps: The models, in any order: a model runs when its tensors are there.
    """

    name: DnsLabel
    inputs: Annotated[tuple[str, ...], Field(min_length=1)]
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]
    steps: Annotated[tuple[StepSpec, ...], Field(min_length=1)]


def short_batch(value: object) -> object:
    """Read `batch: none` as batches along no axis."""
    return {"axis": "none"} if value == "none" else value


def _instances(value: object) -> object:
    """Read `instances: 2` as two copies wherever the pool says."""
    if isinstance(value, str | bool):
        msg = "is neither a number of copies nor a list of groups; write a number without quotes, such as 2, or `[{count: 2}]`"
        raise ValueError(msg)
    return [{"count": value}] if isinstance(value, int) else value


def _versions(value: object) -> object:
    short: dict[object, object] = {"latest": {"latest": 1}, "all": {"all": True}}
    return short.get(value, value) if isinstance(value, str) else value


class LayoutSpec(Spec):
    """How a server runs the model, beyond batches. A server that lacks a feature refuses it, and says which have it.

    Attributes:
        instances: Copies that run side by side: a number, or groups with their own place. Default: one.
        warmup: Requests before the server reports ready: `zeros` for models of fixed shape, real `samples`, or `none`. Default: `zeros`
            where the model answers them, which is tried, and takes numbers only: empty text is seldom a request.
        response_cache: Answer a repeated request from memory. Default: no; only right for models that give the same answer twice.
        versions: Which versions the server offers: `latest` (default), `all`, `{latest: 2}` or `{only: [1, 3]}`.
        numbers: Builds that go into one image as versions of this model, by version number; the image of each of them holds them all.
            Default: each build is version 1 of an image of its own.
        ensemble: This model and others, answering as one. Default: none.
        threads: Threads of ONNX Runtime.
        tensorrt: Let ONNX Runtime hand what it can to TensorRT, on GPUs. Default: no.
    """

    instances: Annotated[
        tuple[InstanceSpec, ...],
        BeforeValidator(_instances, json_schema_input_type=int | list[InstanceSpec]),
        Field(min_length=1),
    ] = (InstanceSpec(),)
    warmup: Warmup | None = None
    response_cache: StrictBool = False
    versions: Annotated[
        VersionsSpec, BeforeValidator(_versions, json_schema_input_type=Literal["latest", "all"] | VersionsSpec)
    ] = VersionsSpec(latest=1)
    numbers: Mapping[Key, DnsLabel] = {}
    ensemble: EnsembleSpec | None = None
    threads: ThreadsSpec = ThreadsSpec()
    tensorrt: TensorRtExecution | None = None

    @model_validator(mode="after")
    def _each_build_has_one_number(self) -> Self:
        builds = list(self.numbers.values())
        twice = sorted({build for build in builds if builds.count(build) > 1})
        if twice:
            msg = f"has several numbers for the builds {twice}; give each build one"
            raise ValueError(msg)
        return self
