"""What a stack tells its users about each service."""

import json
import math
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pulumi

from gpuserve.platform.load import Environment
from gpuserve.platform.spec import ServiceSpec
from gpuserve.traffic.component import TrafficPolicy
from gpuserve.traffic.manifests import sendable_host
from gpuserve_images.onnx_model.signature import Signature, TensorSpec, read_signature
from gpuserve_images.sources.resolving import at_hand
from gpuserve_images.sources.spec import SourceSpec

PROTOCOL = "v2"
"""The open inference protocol, which every runtime of a service speaks."""


def service_output(service: ServiceSpec, environment: Environment, route: TrafficPolicy) -> pulumi.Output[dict[str, Any]]:
    """Return ``{url, host, model, protocol, versions, example}`` of one service.

    ``url`` is the gateway's base address as the Gateway's own status gives it, with the service's path, so it is known only
    when the gateway is programmed; everything else is known at plan time.
    """
    return route.url.apply(lambda url: service_facts(service, environment, url))


def service_facts(service: ServiceSpec, environment: Environment, url: str | None) -> dict[str, Any]:
    """Return what a client needs to know.

    ``host`` is a name to send: of a wildcard host one of those it stands for. Without an address yet, ``url`` and ``example`` are
    ``None``, and so is ``example`` while the model is not on this machine.
    """
    signature = _signature(environment.models[service.model_name].source.model_dump_json(), environment.folder)
    return {
        "url": url,
        "host": sendable_host(service.traffic.host),
        "model": service.model_name,
        "protocol": PROTOCOL,
        "versions": {version.build: version.weight for version in service.versions},
        "example": None if url is None or signature is None else curl_example(url, service, signature),
    }


@cache
def _signature(source: str, folder: Path) -> Signature | None:
    """Read a model once, however many services it serves; None where that would take a download or a framework."""
    files = at_hand(SourceSpec.model_validate_json(source), folder)
    return read_signature(files.entry) if files is not None and files.format == "onnx" else None


def curl_example(url: str, service: ServiceSpec, signature: Signature) -> str:
    """Return a curl line that sends one request of zeros through the gateway; it needs only a shell and coreutils."""
    host = sendable_host(service.traffic.host)
    address = shlex.quote(f"{url}/v2/models/{service.model_name}/infer")
    inputs = ",".join(_zeros(tensor) for tensor in signature.inputs)
    return f"curl -sS --fail-with-body -H 'Host: {host}' {address} -d '{{\"inputs\":[{inputs}]}}'"


def _zeros(tensor: TensorSpec) -> str:
    """Return a tensor as the protocol's JSON inside single quotes, its data written by the shell."""
    shape = [max(size, 1) for size in tensor.shape]
    zero = {"BOOL": "false", "BYTES": '"\\""'}.get(tensor.dtype, "0")
    data = f"'$(yes {zero} | head -n {math.prod(shape)} | paste -sd, -)'"
    head = json.dumps({"name": tensor.name, "shape": shape, "datatype": tensor.dtype})
    return f'{head[:-1]}, "data":[{data}]}}'
