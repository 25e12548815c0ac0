"""What may be said about where builds run."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.identifiers import DnsLabel, Namespace, SecretName
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import WHOLE, Bytes, Cpu, Duration
from gpuserve_images.oci.reference import is_loopback

_NEEDS_ITS_GPU = "tensorrt"
"""The engine that is compiled on the GPU it is for; TensorRT for RTX compiles without one."""


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.username:
        msg = "is not the address of a registry; write its scheme, host and port alone, such as http://10.244.0.1:5000"
        raise ValueError(msg)
    return value


class BuilderSpec(Spec):
    """Where builds run: on this machine, or as Jobs in the cluster. It changes nothing about the images.

    Attributes:
        kind: `local` (default), or `job`. `builder: job` alone is short for `{kind: job}`.
        pool: The pool whose nodes run the Jobs. Default: that of the first service that needs the image, so that an engine is
            built on the GPU it is for.
        namespace: Namespace of the Jobs; it must exist, with what a build takes from it, before it is named. Default: the pool's,
            whose quota then counts them.
        deadline: Longest time from a Job's start to its end, waiting and retries included; then it is stopped. Default 1 h: a
            TensorRT engine at the highest builder level takes some ten minutes, and nothing runs for ever unseen.
        retries: How often a failed pod is replaced. Default 2: finished stages are not run again, so a retry is cheap, and what
            fails three times is no accident. A model that is wrong is not tried again.
        start_within: How long a pod may wait for a node and for quota. Default 10 min: what an autoscaled GPU node takes to come.
        image: The image that builds, with gpuserve on its `python3` (and, for engine `tensorrt`, TensorRT). Default: gpuserve's
            own, made on this machine on first need and kept in the registry: one for all but engine `tensorrt`, and one with TensorRT,
            whose wheel comes from NVIDIA's index (`WHEEL_STUB_PIP_INDEX_URL` names a mirror).
        cpu: Processor time that a pod requests; it may use more where there is more. Default 500m.
        memory: Memory that a pod requests and may use. Default 4 Gi: quantisation holds a model several times.
        gpus: GPUs that a pod requests. Default: 1 for engine `tensorrt`, which is compiled on the GPU it is for, else none: ONNX
            Runtime and TensorRT for RTX build on the CPU. 1 where nodes take no other pods.
        scratch: Size of the pod's own volume, which holds the model's files and those of all stages. Default 20 Gi.
        registry_address: Address at which pods reach the registry, such as `http://10.244.0.1:5000`, where it differs from its
            name; with `http` it is spoken to without TLS. Default: its name, as on this machine.
        registry_secret: A Secret of type `kubernetes.io/dockerconfigjson` in the namespace, for pulling the builder's image and for
            pushing what it makes. Default: none.
        secrets: Secrets whose keys become environment variables, such as `AWS_ACCESS_KEY_ID` for a model at an `s3` address.
            Default: none.
        service_account: ServiceAccount of the pods, for clouds that tie an identity to it; its token is not mounted. Default `default`.
        context: Context of the kubeconfig, instead of what the stack says about its cluster. Default: what Pulumi's Kubernetes provider
            follows: `kubernetes:context` and `kubernetes:cluster` of the stack, else the current context.
    """

    kind: Literal["local", "job"] = "local"
    pool: DnsLabel | None = None
    namespace: Namespace | None = None
    deadline: Duration = Duration("1h")
    retries: Annotated[int, Field(ge=0, le=10, strict=True), WHOLE] = 2
    start_within: Duration = Duration("10m")
    image: str | None = None
    cpu: Cpu = Cpu("500m")
    memory: Bytes = Bytes("4Gi")
    gpus: Annotated[int, Field(ge=0, le=16, strict=True), WHOLE] | None = None
    scratch: Bytes = Bytes("20Gi")
    registry_address: Annotated[str, AfterValidator(_address)] | None = None
    registry_secret: SecretName | None = None
    secrets: tuple[SecretName, ...] = ()
    service_account: SecretName = "default"
    context: str | None = None

    def gpus_for(self, engine: str) -> int:
        """Return how many GPUs the pod of a build for this engine requests."""
        if self.gpus is not None:
            return self.gpus
        return 1 if engine == _NEEDS_ITS_GPU else 0

    @model_validator(mode="after")
    def _options_of_a_job(self) -> Self:
        given = sorted(self.chosen().keys() - {"kind"})
        if self.kind == "local" and given:
            msg = f"names {', '.join(given)}, which only Jobs have; add `kind: job`, or remove them"
            raise ValueError(msg)
        return self


def short(value: Any) -> Any:
    """Read `job` alone as a Job without options."""
    return {"kind": value} if isinstance(value, str) else value


Builder = Annotated[BuilderSpec, BeforeValidator(short, json_schema_input_type=Literal["local", "job"] | BuilderSpec)]
"""A `BuilderSpec`; `local` or `job` alone means one without options."""

LOCAL = BuilderSpec()


def require_reachable(registry: str, spec: BuilderSpec) -> None:
    """Check that pods can reach the registry.

    Raises:
        SpecError: When it is on this machine's loopback, which is another one in a pod.
    """
    host = registry.split("/", 1)[0]
    if is_loopback(host) and spec.registry_address is None:
        reason = f"is not given, and pods do not reach registry {host}: there, that name is the pod itself"
        fix = "add the address that pods reach it by (embedded cluster: registry_address: http://10.244.0.1:5000)"
        raise SpecError.of("builder.registry_address", None, reason, fix)
