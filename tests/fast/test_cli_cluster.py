"""A cluster that stops answering while it is read is an error in words: a server that plays an API server up to that point."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuserve.cli import cluster
from gpuserve.cli.cluster import Cluster, ClusterUnreachableError, connect

VERSION = dict.fromkeys(("major", "minor", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "")
PODS = {"name": "pods", "singularName": "pod", "kind": "Pod", "namespaced": True, "verbs": ["get", "list"]}
ANSWERS: dict[str, dict[str, Any]] = {
    "/version/": {**VERSION, "gitVersion": "v1.36.3"},
    "/version": {**VERSION, "gitVersion": "v1.36.3"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [PODS]},
}
READS: list[Callable[[Cluster], Any]] = [
    lambda found: found.get("v1", "Pod", "a", "n"),
    lambda found: found.list("v1", "Pod", "n"),
]


@pytest.fixture(params=["hangs", "hangs up"])
def found(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A connection to a server that describes itself, and has nothing to say about any object."""
    end = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = ANSWERS.get(self.path.partition("?")[0])
            if answer is None:
                if request.param == "hangs":
                    end.wait(10)
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # the client keeps what it discovered there, by address
    try:
        connected = connect(str(tmp_path / "config"))
        monkeypatch.setattr(cluster, "TIMEOUT", 0.2)
        yield connected
    finally:
        end.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("read", READS, ids=["get", "list"])
def test_a_cluster_that_falls_silent_is_named(found: Cluster, read: Callable[[Cluster], Any]) -> None:
    assert found.version == "v1.36.3"
    with pytest.raises(ClusterUnreachableError, match=r"cluster http://127.0.0.1:\d+: does not answer .*Fix: start it"):
        read(found)


def test_a_kind_that_the_cluster_lacks_is_no_object(found: Cluster) -> None:
    assert found.get("v1", "Gateway", "a", "n") is None
    assert found.list("v1", "Gateway", "n") == []
