"""What a user sees when a registry is down, refuses, stumbles or breaks off; a small server plays those parts."""

import base64
import json
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import File, Layer, bake, client, memory, resolve, retries

LAYER = Layer({"/m": File(b"m" * 3_000_000)})


class Registry(ThreadingHTTPServer):
    """Takes everything, except what `refuse` says: (method, part of the path) -> list of statuses, used up one by one."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.refuse = {}
        self.retry_after = None
        self.cut_uploads = 0
        self.wants_token = False
        self.requests = []
        self.received = []
        self.forms = []
        self.slow = 0
        self.at_once = self.most_at_once = 0
        self.tokens = 0
        self.expires = False
        self.broken_tokens = False
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_):
        """A client that hangs up is part of the play."""

    def generation(self):
        """Number that good tokens carry: those from before the first upload are good no more."""
        return int(self.expires and any(method == "PUT" for method, _ in self.requests))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        server = self.server
        server.requests.append((self.command, self.path))
        if self.command == "PUT" and "uploads" in self.path and server.cut_uploads:
            server.cut_uploads -= 1
            self.rfile.read(min(1000, int(self.headers["Content-Length"])))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if self.command == "PUT" and "uploads" in self.path and server.slow:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            time.sleep(server.slow)
            server.at_once -= 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.received.append(len(body))
        if self.path.startswith("/token"):
            self._token(body)
        elif server.wants_token and f"{(scope := self._scope())}#{server.generation()}" != self.headers.get("Authorization"):
            challenge = f'Bearer realm="http://{server.host}/token",service="test",scope="{scope.removeprefix("Bearer ")}"'
            self._answer(401, {"Www-Authenticate": challenge})
        elif statuses := self._refusals():
            headers = {"Retry-After": server.retry_after} if server.retry_after else {}
            errors = {"errors": [{"code": "DENIED", "message": "because"}]}
            self._answer(statuses.pop(0), headers, json.dumps(errors).encode())
        else:
            status = {"HEAD": 404, "GET": 404, "POST": 202, "PUT": 201}[self.command]
            self._answer(status, {"Location": "/v2/m/blobs/uploads/1?state=x"})

    def _refusals(self):
        refuse = self.server.refuse.items()
        return next((left for (method, part), left in refuse if method == self.command and part in self.path and left), None)

    def _scope(self):
        return "Bearer repository:m:pull,push" if self.command in {"PUT", "POST"} else "Bearer repository:m:pull"

    def _token(self, body):
        server = self.server
        server.tokens += 1
        if server.broken_tokens:
            self._answer(200, {}, b"<html>")
            return
        form = parse_qs(body.decode()) if self.command == "POST" else parse_qs(urlsplit(self.path).query)
        known = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:secret").decode()
        if self.command == "POST":
            server.forms.append(form)
            known = form.get("refresh_token") == ["long-lived"]
        if not known:
            self._answer(401)
            return
        token = " ".join(form["scope"])
        self._answer(
            200, {"Content-Type": "application/json"}, json.dumps({"token": f"{token}#{server.generation()}"}).encode()
        )

    def _answer(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815 - names that http.server prescribes

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    with Registry() as running:
        yield running
        running.shutdown()


def test_a_registry_that_is_down_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.01)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RegistryError, match="is down or not reachable") as caught:
            bake(f"{host}/models/m:1", [LAYER])
    assert caught.value.registry == host
    assert caught.value.repository == "models/m"
    assert "Connection refused" in caught.value.reason
    assert "change `registry`" in caught.value.fix


@pytest.mark.parametrize(
    ("status", "reason", "fix"),
    [
        (401, "wants credentials", "docker login"),
        (403, "may not do this", "push access"),
        (413, "larger than it takes", "limit"),
        (429, "too many requests", "Wait"),
        (500, "it failed", "log"),
        (507, "disk is full", "Free space"),
        (418, "refused the request", "log"),
    ],
)
def test_a_refused_upload_says_why_and_what_to_do(server, status, reason, fix):
    server.refuse[("PUT", "uploads")] = [status] * 9
    with pytest.raises(RegistryError, match=reason) as caught:
        bake(f"{server.host}/m:1", [LAYER])
    assert caught.value.status == status
    assert fix in caught.value.fix
    assert "DENIED because" in caught.value.reason
    assert not [path for method, path in server.requests if method == "PUT" and "manifests" in path], (
        "no half image is published"
    )


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "request_line", [("HEAD", "manifests"), ("HEAD", "blobs"), ("POST", "uploads"), ("PUT", "uploads"), ("PUT", "manifests")]
)
def test_a_registry_that_stumbles_is_asked_again(server, request_line, status):
    server.refuse[request_line] = [status, status]
    assert bake(f"{server.host}/m:1", [LAYER]).uploaded_bytes > 3_000_000


def test_a_cut_upload_begins_again_and_is_sent_whole(server):
    server.cut_uploads = 2
    assert bake(f"{server.host}/m:1", [LAYER]).uploaded_bytes > 3_000_000
    assert max(server.received) > 3_000_000


def test_an_upload_that_is_always_cut_ends_with_an_error(server):
    server.cut_uploads = 99
    with pytest.raises(RegistryError, match=r"connection broke|not reachable"):
        bake(f"{server.host}/m:1", [LAYER])


@pytest.mark.parametrize("uploads", [1, 4])
def test_so_many_blobs_are_sent_at_once_and_no_more(server, uploads):
    server.slow = 0.05
    layers = [Layer({f"/{number}": File(bytes([number]) * 1000)}) for number in range(9)]
    bake(f"{server.host}/m:1", layers, uploads=uploads)
    assert server.most_at_once == uploads


def test_without_an_upload_nothing_can_be_sent(server):
    with pytest.raises(ImageError, match="less than one upload"):
        bake(f"{server.host}/m:1", [LAYER], uploads=0)


def test_the_first_failure_ends_the_other_uploads(server):
    server.slow = 0.05
    server.refuse[("PUT", "uploads")] = [403] * 99
    layers = [Layer({f"/{number}": File(bytes([number]) * 1000)}) for number in range(40)]
    with pytest.raises(RegistryError, match="may not do this"):
        bake(f"{server.host}/m:1", layers)
    assert len([path for method, path in server.requests if method == "PUT"]) < 12


@pytest.mark.parametrize(
    "spoil", [lambda folder: folder.rmdir(), lambda folder: (folder / "memory.sqlite").write_bytes(b"no database" * 999)]
)
def test_without_a_memory_everything_is_found_out_again(server, tmp_path, monkeypatch, spoil):
    """The disk is full, the home is read-only, or the file is damaged: it only saves work."""
    folder = tmp_path / "memory"
    folder.mkdir()
    spoil(folder)
    if not folder.exists():
        folder.write_bytes(b"a file in place of the folder")
    monkeypatch.setattr(memory, "_folder", lambda: folder)
    assert bake(f"{server.host}/m:1", [LAYER]).uploaded_bytes > 3_000_000


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (lambda: "7", 7, 7),
        (lambda: formatdate(time.time() + 20, usegmt=True), 18, 20),
        (lambda: formatdate(time.time() + 3600, usegmt=True), 30, 30),
        (lambda: formatdate(time.time() - 3600, usegmt=True), 0.01, 0.01),
        (lambda: "soon", 0.01, 0.01),
        (lambda: "\u00b2", 0.01, 0.01),
    ],
    ids=["seconds", "date", "too far", "past", "words", "no decimal"],
)
def test_the_wait_that_the_registry_asks_for_is_kept(server, monkeypatch, asked, least, most):
    waits = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    server.refuse[("HEAD", "manifests")] = [429]
    server.retry_after = asked()
    bake(f"{server.host}/m:1", [LAYER])
    assert len(waits) == 1
    assert least <= waits[0] <= most


def test_a_token_is_fetched_for_each_scope(server, tmp_path, monkeypatch):
    server.wants_token = True
    auth = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert bake(f"{server.host}/m:1", [LAYER]).uploaded_bytes > 3_000_000


def test_a_refresh_token_is_exchanged_for_an_access_token(server, tmp_path, monkeypatch):
    server.wants_token = True
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"identitytoken": "long-lived"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert bake(f"{server.host}/m:1", [LAYER]).uploaded_bytes > 3_000_000
    assert [form["grant_type"] for form in server.forms] == [["refresh_token"]] * len(server.forms)
    assert {form["refresh_token"][0] for form in server.forms} == {"long-lived"}


def test_a_token_that_expires_in_the_middle_is_renewed(server, tmp_path, monkeypatch):
    server.wants_token = True
    auth = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server.expires = True
    layers = [LAYER, Layer({"/n": File(b"n" * 100)})]
    assert bake(f"{server.host}/m:1", layers, uploads=1).uploaded_bytes > 3_000_000  # the large one is refused first
    assert server.tokens >= 3
    assert sorted(server.received)[-2] > 3_000_000, "the refused body is sent again, whole"


def test_a_token_server_that_is_broken_is_named(server, tmp_path, monkeypatch):
    server.wants_token = True
    server.broken_tokens = True
    with pytest.raises(RegistryError, match=r"its token server .* gives no usable answer"):
        resolve(f"{server.host}/m:1")


def test_a_wrong_password_is_an_error_without_the_password(server, tmp_path, monkeypatch):
    server.wants_token = True
    auth = base64.b64encode(b"me:wrong-one").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(RegistryError, match="wants credentials") as caught:
        resolve(f"{server.host}/m:1")
    assert "wrong-one" not in str(caught.value)
    assert auth not in str(caught.value)


def test_a_file_that_grows_between_digest_and_sending_is_refused(server, tmp_path):
    source = tmp_path / "model.onnx"
    source.write_bytes(b"m" * 1000)

    def grow(done, total):
        if done * 2 >= total:
            source.write_bytes(b"m" * 5000)

    with pytest.raises(ImageError, match="changed"):
        bake(f"{server.host}/m:1", [Layer({"/m": File(source)})], progress=grow)


def test_plain_http_behind_an_https_name_is_explained(server, monkeypatch):
    monkeypatch.setattr(client, "address_of", lambda name: f"https://{name}")
    with pytest.raises(RegistryError, match="certificate is not trusted, or it speaks plain HTTP"):
        resolve(f"{server.host}/m:1")


def test_a_registry_may_be_reached_elsewhere_than_by_its_name(server, monkeypatch):
    address = f"http://127.0.0.1:{server.host.split(':')[1]}"
    monkeypatch.setenv("GPUSERVE_REGISTRY_ADDRESSES", f"other.example.com=http://127.0.0.1:1, registry.example.com={address}")
    pushed = bake("registry.example.com/m:1", [Layer({"/m": File(b"m")})])
    assert pushed.reference.startswith("registry.example.com/m@sha256:")
    assert ("PUT", "/v2/m/manifests/1") in server.requests
