"""A prediction through a gateway: a small HTTP server stands for gateway and model here."""

import json
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from gpuserve.cli.inference import InferenceError, decode, encode, infer
from gpuserve.traffic.certificate import Certificate, issue

Cli = Callable[..., Any]


class Doubler(BaseHTTPRequestHandler):
    """Answers like a v2 server with the doubling model, below the path that its gateway takes off."""

    seen: dict[str, Any]
    prefix = ""
    model, output = "tiny", "y"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen = {"path": self.path, "host": self.headers["Host"], "body": body}
        known = self.path == f"{self.prefix}/v2/models/{self.model}/infer"
        tensor = body["inputs"][0]
        doubled = {**tensor, "name": self.output, "data": [2 * value for value in tensor["data"]]}
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
    """A cluster with nothing but a Gateway, and a CA where it has TLS."""

    def __init__(self, port: int | None, ca: str = "") -> None:
        self.port, self.ca = port, ca

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        if (kind, name) == ("ConfigMap", "tiny-ca") and self.ca:
            return {"kind": kind, "data": {"ca.crt": self.ca}}
        if self.port is None or kind != "Gateway":
            return None
        protocol = "HTTPS" if self.ca else "HTTP"
        listener = {"name": protocol.lower(), "protocol": protocol, "port": self.port, "hostname": "*.example.com"}
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


def test_predict_asks_at_the_port_that_is_exposed_for_the_listener(address: str, sandbox: Any, ask: Cli) -> None:
    port = int(address.rpartition(":")[2])
    sandbox.service["traffic"]["gateway"] = {"http_port": 8000, "exposed_http_port": port}
    sandbox.write()
    result = ask("tiny", sandbox.models / "samples" / "0.npz", OneGateway(8000))
    assert result.exit_code == 0, result.output
    assert Doubler.seen["host"] == "tiny.example.com"


def test_predict_sends_a_name_that_a_wildcard_host_stands_for(address: str, sandbox: Any, ask: Cli) -> None:
    sandbox.service["traffic"]["host"] = "*.example.com"
    sandbox.write()
    result = ask("tiny", sandbox.models / "samples" / "0.npz", OneGateway(int(address.rpartition(":")[2])))
    assert result.exit_code == 0, result.output
    assert Doubler.seen["host"] == "any.example.com"


def test_predict_asks_an_ensemble_by_its_own_names(
    address: str, sandbox: Any, ask: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.become_an_ensemble()
    sandbox.write()
    monkeypatch.setattr(Doubler, "model", "whole")
    monkeypatch.setattr(Doubler, "output", "answer")
    result = ask("tiny", sandbox.models / "samples" / "0.npz", OneGateway(int(address.rpartition(":")[2])), "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["model"], answer["outputs"], answer["answer"][:8]) == ("whole", {"answer": [1, 4]}, "answer: ")
    assert [tensor["name"] for tensor in Doubler.seen["body"]["inputs"]] == ["raw"]


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
def with_tls(tmp_path: Path, sandbox: Any) -> Iterator[tuple[int, Certificate]]:
    """A server that shows a certificate for the service's host by a CA that no machine trusts: its port, and the certificate."""
    sandbox.service["traffic"]["tls"] = {"mode": "generated"}
    sandbox.write()
    issued = issue("tiny.example.com")
    (tmp_path / "server.pem").write_text(issued.key + issued.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server = HTTPServer(("127.0.0.1", 0), Doubler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port, issued
    server.shutdown()
    server.server_close()


def test_predict_trusts_the_ca_that_was_made_for_the_service(
    with_tls: tuple[int, Certificate], sandbox: Any, ask: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, issued = with_tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")  # what the machine trusts is another matter
    file = sandbox.models / "samples" / "0.npz"
    result = ask("tiny", file, OneGateway(port, issued.ca))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{file}: y: ")
    refused = ask("tiny", file, OneGateway(port, issue("tiny.example.com").ca))
    assert refused.exit_code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr


def test_a_certificate_for_another_host_is_refused(with_tls: tuple[int, Certificate]) -> None:
    port, issued = with_tls
    with pytest.raises(InferenceError, match=r"CERTIFICATE_VERIFY_FAILED|doesn't match"):
        infer(f"https://127.0.0.1:{port}/v2/models/tiny/infer", {}, "other.example.com", timeout=5, authorities=issued.ca)


def test_a_redirect_is_no_answer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(handler: Doubler) -> None:
        handler.send_response(301)
        handler.send_header("Location", f"{address}/v2")
        handler.end_headers()

    monkeypatch.setattr(Doubler, "do_POST", away)
    with pytest.raises(InferenceError, match="HTTP 301"):
        infer(f"{address}/v2/models/tiny/infer", {}, "tiny.example.com", timeout=5)


@pytest.fixture
def ask(sandbox: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    def run(service: str, file: object, cluster: OneGateway, *options: str) -> Any:
        monkeypatch.setattr("gpuserve.cli.cluster.connect", lambda **_: cluster)
        return cli("predict", service, file, "-s", "local", "--stacks", sandbox.stacks, *options)

    return run


def test_a_refused_request_shows_what_the_server_said(address: str) -> None:
    with pytest.raises(InferenceError, match=r"HTTP 404 .*unknown model"):
        infer(f"{address}/v2/models/other/infer", {"x": np.zeros((1, 4), np.float32)}, "example.com", timeout=5)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_tensors_survive_the_protocol(kind: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    back = decode(json.loads(json.dumps(encode("x", array))))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
