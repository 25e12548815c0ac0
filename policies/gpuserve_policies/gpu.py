"""Rules about GPUs."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gpuserve_policies.pods import Container, Pod, pods
from gpuserve_policies.rule import Context, Manifest, Rule, ValueNotKnownError, Violation

_GPU_RESOURCE = re.compile(r"(nvidia\.com/(gpu|mig-).*|amd\.com/gpu|tencent\.com/vcuda-.*|gpu\.intel\.com/.*)")


def gpu_resources(container: Container, kind: str) -> dict[str, str]:
    """Return the GPU resources among a container's ``requests`` or ``limits`` (the ``kind``), amounts as text."""
    amounts: Mapping[str, Any] = container.read("resources", kind) or {}
    return {name: _amount(container.read("resources", kind, name)) for name in amounts if _GPU_RESOURCE.fullmatch(name)}


def _gpu_limits(manifest: Manifest, _context: Context) -> Iterator[Violation]:
    for pod in pods(manifest):
        try:
            for container in pod.containers:
                yield from _limits_equal_requests(container)
            yield from _server_has_a_gpu(pod)
        except ValueNotKnownError as unknown:
            yield unknown.violation


def _limits_equal_requests(container: Container) -> Iterator[Violation]:
    limits = gpu_resources(container, "limits")
    for name, request in gpu_resources(container, "requests").items():
        field = f"{container.path}.resources.limits"
        if name not in limits:
            yield Violation(field, None, f"requests {name}: {request} but sets no limit for it")
        elif limits[name] != request:
            yield Violation(f"{field}[{name}]", limits[name], f"differs from the request of {request}")


def _server_has_a_gpu(pod: Pod) -> Iterator[Violation]:
    """Catch a model server that asks for no GPU at all: it would start on any node and answer from the processor, or not."""
    is_server = pod.label("app.kubernetes.io/part-of") == "gpuserve" and pod.label("app.kubernetes.io/component") == "server"
    claims = pod.body.get("spec", {}).get("resourceClaims")
    if not is_server or claims or any(gpu_resources(container, "limits") for container in pod.containers):
        return
    yield Violation(pod.containers[-1].path + ".resources.limits", None, "is a model server without a GPU limit")


def _amount(value: object) -> str:
    """Return a resource amount so that 1, 1.0 and "1" are equal: the engine hands numbers over as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


GPU_LIMITS = Rule(
    name="gpu-limits",
    description=(
        "A container that asks for a GPU has a limit equal to its request, and a model server has one: "
        "GPUs are not overcommitted, and without a limit no device is handed to the container."
    ),
    check=_gpu_limits,
    fix="set resources.limits of the GPU resource to the number that is requested, for example `nvidia.com/gpu: 1`",
    severity="high",
    url="https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/",
)
