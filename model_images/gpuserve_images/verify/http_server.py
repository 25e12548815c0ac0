"""A model behind a server that speaks the open inference protocol v2 over HTTP, as load sees it."""

import json
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, cast
from urllib.parse import quote

from numpy.typing import NDArray

from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.load import Call
from gpuserve_images.verify.remote import SEE_MODEL, Remote, datatype, raw_bytes
from gpuserve_images.verify.server import Server

OK = 200

BINARY = "binary_tensor_data"
"""The extension for tensors as bytes instead of JSON numbers (Triton has it)."""


class HttpServer(Server[tuple[bytes, dict[str, str]]]):
    """A model over HTTP; tensors travel as bytes where the server can, else as JSON."""

    def __init__(self, remote: Remote) -> None:
        """Ask for the server's extensions and the model's metadata.

        Raises:
            LoadError: When the server cannot be reached, or does not serve that model.
        """
        if remote.parts.scheme not in {"http", "https"}:
            raise remote.error("is no HTTP address", "Write http:// or https://, or add `--protocol grpc`.")
        super().__init__(remote)
        self._prefix = remote.parts.path.rstrip("/")
        with closing(self._open()) as connection:
            self._metadata = self._get(connection, self._path())
            server = self._get(connection, f"{self._prefix}/v2", optional=True)
        self.binary = BINARY in (server.get("extensions") or ())

    @property
    def where(self) -> str:
        """Model, address and protocol."""
        return f"{self._remote.named}, HTTP ({'binary tensors' if self.binary else 'JSON'})"

    @contextmanager
    def connect(self, batch: int) -> Generator[Call]:
        """Return a caller with a connection of its own, which stays open."""
        messages = self._messages(batch)
        path = f"{self._path()}/infer"
        with closing(self._open()) as connection:

            def call() -> None:
                body, headers = next(messages)
                status, answer = self._exchange(connection, "POST", path, body, headers)
                if status != OK:
                    raise self._remote.error(f"answered HTTP {status} ({_said(answer)})", SEE_MODEL)

            yield call

    def _open(self) -> HTTPConnection:
        parts = self._remote.parts
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(str(parts.hostname), parts.port, timeout=self._remote.timeout)

    def _path(self) -> str:
        return f"{self._prefix}/v2/models/{quote(self._remote.model, safe='')}"

    def _exchange(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        host = {"Host": self._remote.host} if self._remote.host else {}
        try:
            connection.request(method, path, body, {**headers, **host})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException) as error:
            # The next request opens the connection again.
            connection.close()
            raise self._remote.unreachable(error) from error

    def _get(self, connection: HTTPConnection, path: str, *, optional: bool = False) -> dict[str, Any]:
        status, answer = self._exchange(connection, "GET", path, None, {})
        if status != OK:
            if optional:
                return {}
            reason = f"answered HTTP {status} to {path} ({_said(answer)})"
            raise self._remote.error(
                reason, "See that the server has this model, and `--host` where a gateway chooses by name."
            )
        try:
            document: Any = json.loads(answer)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            if optional:
                return {}
            raise self._remote.error(f"answered something else than JSON to {path}", "Give the address of an inference server.")
        return cast("dict[str, Any]", document)

    def _encode(self, tensors: Tensors) -> tuple[bytes, dict[str, str]]:
        if not self.binary:
            inputs = [{**self._head(name, array), "data": array.ravel().tolist()} for name, array in tensors.items()]
            return json.dumps({"inputs": inputs}).encode(), {"Content-Type": "application/json"}
        raw = {name: raw_bytes(array) for name, array in tensors.items()}
        inputs = [
            {**self._head(name, array), "parameters": {"binary_data_size": len(raw[name])}} for name, array in tensors.items()
        ]
        header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        length = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
        return b"".join((header, *raw.values())), length

    def _head(self, name: str, array: NDArray[Any]) -> dict[str, Any]:
        return {"name": name, "shape": list(array.shape), "datatype": datatype(array)}


def _said(answer: bytes) -> str:
    return " ".join(answer.decode(errors="replace").split())[:300] or "no text"
