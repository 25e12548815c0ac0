"""Where a server is, and what it says about a model, in the open inference protocol v2.

The protocol: https://github.com/kserve/open-inference-protocol. Requests are encoded before the clock runs, and answers are read whole
and not decoded, so that what is measured is the server and the network.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.onnx_model.signature import DATA_TYPES, Signature, TensorSpec
from gpuserve_images.verify.load import LoadError

TIMEOUT = 30.0
"""Seconds that a caller waits for an answer."""

_REACH = "See that the server runs and that this machine can reach it"
SEE_MODEL = "See the server's log, and that the inputs fit the model."


class Remote:
    """A server's address and one of its models."""

    def __init__(
        self, url: str, model: str, *, protocol: str = "http", host: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Take an address apart.

        Args:
            url: `http://`, `https://` or `grpc://`, then host, port and a path prefix. A user's name and password in it are dropped.
            model: Name of the model in the server.
            protocol: The scheme of an address that names none. Default `http`.
            host: Name sent as `Host` (or `:authority`), where a gateway chooses by it. Default: that of the address.
            timeout: Seconds to wait for an answer.

        Raises:
            LoadError: When the address is none.
        """
        self.parts = _parts(url, protocol)
        self.model = model
        self.host = host
        self.timeout = timeout
        self.url = f"{self.parts.scheme}://{self.parts.netloc}{self.parts.path}".rstrip("/")

    @property
    def named(self) -> str:
        """What errors and reports call it."""
        return f"model {self.model} at {self.url}" + (f" (host {self.host})" if self.host else "")

    def error(self, reason: str, fix: str) -> LoadError:
        """Return an error about this server."""
        return LoadError(self.named, reason, fix)

    def unreachable(self, error: Exception) -> LoadError:
        """Return the error for a request without an answer."""
        said = str(error) or type(error).__name__
        return self.error(f"gave no answer ({said})", f"{_REACH}, and that `--url` is its address.")


def _parts(url: str, protocol: str) -> SplitResult:
    text = url if "://" in url else f"{protocol}://{url}"
    try:
        parts = urlsplit(text)
        valid = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid, parts = False, SplitResult("", "", "", "", "")
    if not valid or parts.scheme not in {"http", "https", "grpc"}:
        fix = "Write http://HOST:PORT, https://HOST:PORT or, for gRPC, grpc://HOST:PORT."
        raise LoadError("--url", "is no address of an inference server", fix, value=url)
    # Addresses appear in reports, credentials must not.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2])


def signature_of(metadata: Mapping[str, Any], remote: Remote) -> Signature:
    """Read a signature from a model's metadata; servers say -1 for free dimensions.

    Raises:
        LoadError: When the metadata names no inputs, or of types that the protocol does not have.
    """
    roles: dict[str, tuple[TensorSpec, ...]] = {}
    for role in ("inputs", "outputs"):
        listed = metadata.get(role) or []
        try:
            roles[role] = tuple(
                TensorSpec(name=item["name"], dtype=item["datatype"], shape=tuple(int(size) for size in item["shape"]))
                for item in listed
            )
        except (KeyError, TypeError, ValueError) as error:
            raise remote.error("describes its tensors in a way that is not protocol v2's", "Use a v2 server.") from error
    known = {v2 for v2, _ in DATA_TYPES.values()}
    unknown = [tensor.dtype for tensor in roles["inputs"] if tensor.dtype not in known]
    if not roles["inputs"] or unknown:
        reason = f"declares inputs of type {unknown[0]}" if unknown else "does not say which inputs it takes"
        raise remote.error(reason, "Give the model's YAML or ONNX file as well: its inputs are then known from there.")
    return Signature(inputs=roles["inputs"], outputs=roles["outputs"], opset=0)


def datatype(array: NDArray[Any]) -> str:
    """Return an array's type in the protocol."""
    return next(v2 for v2, name in DATA_TYPES.values() if name == array.dtype.name)


def raw_bytes(array: NDArray[Any]) -> bytes:
    """Return an array as the protocol's raw tensor data: little-endian numbers, texts with their length in front."""
    if array.dtype == np.dtype(object):
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.ascontiguousarray(array).tobytes()
