"""A prediction through a gateway: a small HTTP server stands for gateway and model here."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from gpuserve.cli.inference import InferenceError, decode, encode, infer

Cli = Callable[..., Any]


class Doubler(BaseHTTPRequestHandler):
    """Answers like a v2 server with the doubling model, below the path that its gateway takes off."""

    seen: dict[str, Any]
    prefix = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen = {"path": self.path, "host": self.headers["Host"], "body": body}
        known = self.path == f"{self.prefix}/v2/models/tiny/infer"
        tensor = body["inputs"][0]
        doubled = {**tensor, "name": "y", "data": [2 * value for value in tensor["data"]]}
        answer = {"model_name": "tiny", "model_version": "1", "outputs": [doubled]} if known else {"error": "unknown model"}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Doubler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class OneGateway:
    """A cluster with nothing but a Gateway."""

    def __init__(self, port: int | None) -> None:
        self.port = port

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        if self.port is None or kind != "Gateway":
            return None
        listener = {"name": "http", "protocol": "HTTP", "port": self.port, "hostname": "tiny.example.com"}
        return {"kind": kind, "spec": {"listeners": [listener]}, "status": {"addresses": [{"value": "127.0.0.1"}]}}


def test_predict_sends_the_file_through_the_gateway(address: str, sandbox: Any, ask: Cli) -> None:
    gateway = OneGateway(int(address.rpartition(":")[2]))
    file = sandbox.models / "samples" / "0.npz"
    result = ask("tiny", file, gateway, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["service"], answer["model"], answer["outputs"]) == ("tiny", "tiny", {"y": [1, 4]})
    assert Doubler.seen["host"] == "tiny.example.com"
    assert Doubler.seen["body"]["inputs"][0]["shape"] == [1, 4]
    assert ask("tiny", file, gateway).stdout.startswith(f"{file}: y: ")


def test_predict_asks_below_the_path_of_the_service(
    address: str, sandbox: Any, ask: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doubler, "prefix", "/models/one")
    sandbox.service["traffic"]["path"] = "/models/one"
    sandbox.write()
    result = ask("tiny", sandbox.models / "samples" / "0.npz", OneGateway(int(address.rpartition(":")[2])))
    assert result.exit_code == 0, result.output


def test_predict_sends_a_name_that_a_wildcard_host_stands_for(address: str, sandbox: Any, ask: Cli) -> None:
    sandbox.service["traffic"]["host"] = "*.example.com"
    sandbox.write()
    result = ask("tiny", sandbox.models / "samples" / "0.npz", OneGateway(int(address.rpartition(":")[2])))
    assert result.exit_code == 0, result.output
    assert Doubler.seen["host"] == "any.example.com"


@pytest.mark.parametrize(
    ("service", "port", "words"),
    [("tinny", None, "did you mean 'tiny'?"), ("tiny", None, "no address yet"), ("tiny", 1, "no answer")],
)
def test_predict_says_what_is_wrong(service: str, port: int | None, words: str, sandbox: Any, ask: Cli) -> None:
    result = ask(service, sandbox.models / "samples" / "0.npz", OneGateway(port))
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Fix: " in result.stderr


@pytest.fixture
def ask(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    def run(service: str, file: object, cluster: OneGateway, *options: str) -> Any:
        monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda: cluster)
        return cli("predict", service, file, "-s", "local", "--stacks", sandbox.stacks, *options)

    return run


def test_a_refused_request_shows_what_the_server_said(address: str) -> None:
    with pytest.raises(InferenceError, match=r"HTTP 404 .*unknown model"):
        infer(f"{address}/v2/models/other/infer", {"x": np.zeros((1, 4), np.float32)}, {}, timeout=5)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_tensors_survive_the_protocol(kind: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    back = decode(json.loads(json.dumps(encode("x", array))))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
