"""One inference request in the OpenInference protocol (v2, https://github.com/kserve/open-inference-protocol)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from requests.adapters import HTTPAdapter

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve_images.samples.codec import TEXTS

_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_ARRAYS = {v2: name for name, v2 in _TYPES.items()}


class InferenceError(GpuserveError):
    """A server refused a request or could not be reached."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        outputs: Tensors by name.
        version: Which version answered, where the server or the gateway says so.
        seconds: From sending the request to having the whole answer.
    """

    outputs: dict[str, NDArray[Any]]
    version: str | None
    seconds: float


class _NamedHost(HTTPAdapter):
    """TLS with a host by its name while the address is a number: that name is asked for, and must be in the certificate."""

    def __init__(self, host: str) -> None:
        self._host = host
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, server_hostname=self._host, assert_hostname=self._host, **options)


def infer(url: str, inputs: Mapping[str, NDArray[Any]], host: str, *, timeout: float, authorities: str | None = None) -> Answer:
    """Send one request and return its answer.

    Args:
        url: Address ending in ``/infer``.
        inputs: Tensors by input name.
        host: Name of the host, where the address may be another one: what ``Host`` says, and what a certificate must be for.
        timeout: Seconds to wait for the answer.
        authorities: Those whose certificates are trusted, PEM. Default: those that this machine trusts.

    Raises:
        InferenceError: When there is no answer, or the answer is an error; also when an input cannot be sent.
    """
    body = {"inputs": [encode(name, array) for name, array in inputs.items()]}
    started = time.perf_counter()
    try:
        with requests.Session() as session, NamedTemporaryFile("w", suffix=".pem") as file:
            session.mount("https://", _NamedHost(host))
            if authorities is not None:
                file.write(authorities)
                file.flush()
            trusted = True if authorities is None else file.name
            # No redirects: after one a POST becomes a GET, whose answer is another one's.
            response = session.post(
                url, json=body, headers={"Host": host}, timeout=timeout, allow_redirects=False, verify=trusted
            )
    except requests.RequestException as error:
        fix = "see `gpuserve status`; is the gateway reachable from this machine?"
        raise InferenceError(f"{url}: no answer ({error}). Fix: {fix}") from error
    seconds = time.perf_counter() - started
    if response.status_code != HTTPStatus.OK:
        said = " ".join(response.text.split())[:500] or "no text"
        raise InferenceError(f"{url}: HTTP {response.status_code} ({said}). Fix: see `gpuserve status`")
    answer = response.json()
    outputs = {str(output["name"]): decode(output) for output in answer["outputs"]}
    version = (answer.get("parameters") or {}).get("version") or answer.get("model_version")
    return Answer(outputs, str(version) if version else None, seconds)


def encode(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """Return a tensor as the protocol's JSON; text is ``BYTES``.

    Raises:
        InferenceError: When a tensor of text holds something else.
    """
    data = array.ravel().tolist()
    if array.dtype.kind in TEXTS:
        return {"name": name, "shape": list(array.shape), "datatype": "BYTES", "data": [_text(name, value) for value in data]}
    return {"name": name, "shape": list(array.shape), "datatype": _TYPES[array.dtype.name], "data": data}


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    fix = "let the model's encode() return text, or an array of numbers"
    if not isinstance(value, bytes):
        raise InferenceError(f"input {name!r}: holds {type(value).__name__} where text is expected. Fix: {fix}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InferenceError(f"input {name!r}: holds bytes that are not UTF-8, and JSON is text. Fix: {fix}") from error


def decode(tensor: Mapping[str, Any]) -> NDArray[Any]:
    """Return a tensor of the protocol's JSON as an array; text stays text."""
    kind = _ARRAYS.get(str(tensor["datatype"]))
    return np.asarray(tensor["data"], dtype=kind or object).reshape(tensor["shape"])
