"""What a stack tells its users about each service."""

import json
import math
import shlex
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpuserve.platform.load import Environment
from gpuserve.platform.spec import ServiceSpec
from gpuserve.traffic.manifests import ca_name, sendable_host
from gpuserve_images.asking import Asking
from gpuserve_images.onnx_model.signature import Signature, TensorSpec
from gpuserve_images.spec import ModelSpec

MOST_ARGUMENT_NUMBERS = 20_000
"""Zeros that a curl line has among its arguments; `false,` has six characters, and so many of them do not reach 128 KiB."""

PROTOCOL = "v2"
"""The open inference protocol, which every runtime of a service speaks."""


def service_facts(service: ServiceSpec, environment: Environment, url: str | None, ca: str | None) -> dict[str, Any]:
    """Return what a client needs to know.

    ``ca`` is the certificate, PEM, of the authority that gpuserve made for the service; None where the certificate is another's.
    ``host`` is a name to send: of a wildcard host one of those it stands for. ``model`` is what the server calls what is asked: the
    model, or its ensemble. Without an address yet, ``url`` and ``example`` are ``None``, and so is ``example`` while a model is not on
    this machine.
    """
    model = environment.models[service.model_name]
    signature = _signature(model.model_dump_json(), environment.folder)
    return {
        "url": url,
        "host": sendable_host(service.traffic.host),
        "ca": ca,
        "model": model.asked_as,
        "protocol": PROTOCOL,
        "versions": {version.build: version.weight for version in service.versions},
        "example": None
        if url is None or signature is None
        else curl_example(url, service, model.asked_as, signature, _namespace(service, environment)),
    }


@cache
def _signature(model: str, folder: Path) -> Signature | None:
    """Read a model once, however many services it serves; None where that would take a download or a framework."""
    return Asking(ModelSpec.model_validate_json(model), folder).example()


def _namespace(service: ServiceSpec, environment: Environment) -> str:
    return environment.platform.pools_by_name[service.pool].namespace


def curl_example(url: str, service: ServiceSpec, model: str, signature: Signature, namespace: str) -> str:
    """Return a curl line that sends one request of zeros to a service's model, or its ensemble, through the gateway; free axes are 1.

    It needs only a shell and coreutils; with TLS by a CA of gpuserve's own bash or zsh, and kubectl, which reads the CA.
    """
    host = sendable_host(service.traffic.host)
    inputs = ",".join(_zeros(tensor) for tensor in signature.inputs)
    body, numbers = f"'{{\"inputs\":[{inputs}]}}'", sum(math.prod(_shape(tensor)) for tensor in signature.inputs)
    # A command's argument ends at 128 KiB (execve(2), MAX_ARG_STRLEN); `printf` is none, but the shell's own.
    given, data = ("", f"-d {body}") if numbers < MOST_ARGUMENT_NUMBERS else (f"printf %s {body} | ", "-d @-")
    path = f"/v2/models/{model}/infer"
    if not url.startswith("https:"):
        return f"{given}curl -sS --fail-with-body -H 'Host: {host}' {shlex.quote(url + path)} {data}"
    address = urlsplit(url)
    port = address.port or 443
    # A certificate is for a name: the address that stands for it is said beside it.
    there = f"--connect-to {host}:{port}:{address.netloc.removesuffix(f':{port}')}:{port} " if address.hostname != host else ""
    read = f"kubectl get configmap {ca_name(service.name)} -n {namespace} -o 'jsonpath={{.data.ca\\.crt}}'"
    trust = f"--cacert <({read}) " if service.traffic.tls.mode == "generated" else ""
    named = f"https://{host}{'' if address.port is None else f':{port}'}{address.path}{path}"
    return f"{given}curl -sS --fail-with-body {there}{trust}{shlex.quote(named)} {data}"


def _shape(tensor: TensorSpec) -> list[int]:
    return [max(size, 1) for size in tensor.shape]


def _zeros(tensor: TensorSpec) -> str:
    """Return a tensor as the protocol's JSON inside single quotes, its data written by the shell."""
    shape = _shape(tensor)
    zero = {"BOOL": "false", "BYTES": '"\\"\\""'}.get(tensor.dtype, "0")
    data = f"'$(yes {zero} | head -n {math.prod(shape)} | paste -sd, -)'"
    head = json.dumps({"name": tensor.name, "shape": shape, "datatype": tensor.dtype})
    return f'{head[:-1]}, "data":[{data}]}}'
