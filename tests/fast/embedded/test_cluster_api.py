"""Requests to an API server that is still starting: what is tried again, and what is refused at once."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest

from gpuserve_embedded.cluster import api as module
from gpuserve_embedded.cluster.api import Api, wait_until
from gpuserve_embedded.cluster.errors import ClusterError

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"k": "v"}}


class Handler(BaseHTTPRequestHandler):
    answers: ClassVar[list[tuple[int, dict[str, Any]]]] = []
    seen: ClassVar[list[tuple[str, Any]]] = []

    def do_GET(self) -> None:
        known = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
        if self.path == "/openapi/v2":
            assert "protobuf" in self.headers["Accept"]
            self.reply(*self.answers.pop(0))
        else:
            self.reply(200, known) if self.path == "/api/v1" else self.reply(404, {})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body))
        self.reply(*self.answers.pop(0))

    def reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def certificates(monkeypatch, tmp_path) -> None:
    for name in ("ca.crt", "admin.crt", "admin.key"):
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "PKI", tmp_path)


@pytest.fixture
def server(monkeypatch):
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(module, "API_SERVER", f"http://127.0.0.1:{listener.server_address[1]}")
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    Handler.answers.clear()
    Handler.seen.clear()
    yield Handler
    listener.shutdown()
    listener.server_close()


def test_an_object_is_applied_at_its_own_path(server) -> None:
    server.answers.append((200, {}))
    Api().apply([CONFIG_MAP])
    ((path, body),) = server.seen
    assert path.startswith("/api/v1/namespaces/n/configmaps/a?fieldManager=gpuserve-embedded")
    assert body == CONFIG_MAP


@pytest.mark.parametrize(
    "passing", [(503, {"message": "starting"}), (409, {"message": "conflict"}), (404, {"message": 'namespaces "n" not found'})]
)
def test_what_passes_by_itself_is_tried_again(server, passing) -> None:
    server.answers += [passing, passing, (201, {})]
    Api().apply([CONFIG_MAP])
    assert len(server.seen) == 3


def test_what_is_wrong_is_refused_at_once_with_the_servers_words(server) -> None:
    server.answers.append((422, {"message": "data: Invalid value."}))
    with pytest.raises(ClusterError) as caught:
        Api().apply([CONFIG_MAP])
    assert "ConfigMap n/a: data: Invalid value." in str(caught.value)
    assert len(server.seen) == 1


def test_a_kind_that_never_comes_is_an_error_within_the_time(server) -> None:
    with pytest.raises(ClusterError, match="offers no Unknown in v1"):
        Api().apply([{**CONFIG_MAP, "kind": "Unknown"}], timeout_seconds=0.1)


def test_a_server_that_is_not_there_is_an_error_within_the_time(monkeypatch) -> None:
    monkeypatch.setattr(module, "API_SERVER", "http://127.0.0.1:1")
    with pytest.raises(ClusterError, match="offers no ConfigMap in v1"):
        Api().apply([CONFIG_MAP], timeout_seconds=0.1)


def test_nothing_is_at_a_path_where_nothing_is(server) -> None:
    assert Api().get("/api/v1/nodes/none") is None


def test_waiting_ends_when_nothing_is_wanting_and_else_says_what_is() -> None:
    wanted = iter(["the node", "the pod", None])
    wait_until("wait", lambda: next(wanted), timeout_seconds=5, fix="", poll_seconds=0)
    with pytest.raises(ClusterError, match="the pod: not done within"):
        wait_until("wait", lambda: "the pod", timeout_seconds=0.05, fix="look", poll_seconds=0.01)


def test_the_description_is_there_when_it_is_answered(server) -> None:
    server.answers += [(503, {}), (200, {})]
    assert [Api().describes_itself(), Api().describes_itself()] == [False, True]


def test_a_server_that_is_gone_has_no_description(monkeypatch) -> None:
    monkeypatch.setattr(module, "API_SERVER", "http://127.0.0.1:1")
    assert not Api().describes_itself()
