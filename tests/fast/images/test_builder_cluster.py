"""Which cluster a build asks, and what it may find out there, over real HTTP."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from gpuserve.kubernetes.cluster import ClusterChoice
from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.builder.cluster import KubernetesCluster, UnreachableError, connect
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.needs import require_needs
from gpuserve_images.builder.spec import BuilderSpec


class Api(ThreadingHTTPServer):
    """An API server with one namespace, `there`, and what is in it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status: dict[str, int] = {"/api/v1/namespaces/there": 200}
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Accept"]))
        status = self.server.status.get(self.path, 404)
        self._answer(
            status, {"kind": "PartialObjectMetadata", "metadata": {"name": "x"}} if status == 200 else {"message": "no"}
        )

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.headers["Accept"]))
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, {"kind": "SelfSubjectAccessReview", "spec": {}, "status": {"allowed": True}})

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def apis() -> Iterator[tuple[Api, Api]]:
    servers = (Api(), Api())
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def kubeconfig(apis: tuple[Api, Api], tmp_path: Path) -> Path:
    """Two contexts, `here` (the current one) and `there`."""
    names = ("here", "there")
    file = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": name, "cluster": {"server": api.url}} for name, api in zip(names, apis, strict=True)],
        "users": [{"name": "me", "user": {"token": "x"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in names],
    }
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.parametrize(("context", "asked"), [(None, 0), ("here", 0), ("there", 1)])
def test_the_context_that_is_named_is_asked(apis, kubeconfig, context, asked):
    connect(ClusterChoice(context), {"KUBECONFIG": str(kubeconfig)}).require_rights("ns")
    assert [bool(api.asked) for api in apis] == [asked == 0, asked == 1]


@pytest.mark.parametrize("form", ["path", "text"])
def test_the_kubeconfig_and_cluster_of_the_stack_come_first(apis, kubeconfig, form):
    given = {"path": str(kubeconfig), "text": kubeconfig.read_text()}[form]
    connect(ClusterChoice("here", "there", given), {"KUBECONFIG": "/nowhere"}).require_rights("ns")
    assert [bool(api.asked) for api in apis] == [False, True]


def test_a_context_that_is_not_there_is_said_with_those_that_are(apis, kubeconfig):
    with pytest.raises(SpecError) as caught:
        connect(ClusterChoice("their", context_field="builder.context"), {"KUBECONFIG": str(kubeconfig)})
    assert str(caught.value).startswith(f"builder.context = 'their': is no context of {kubeconfig}. Fix: ")
    assert "did you mean 'there'?" in str(caught.value)
    assert not any(api.asked for api in apis)


@pytest.mark.parametrize(
    ("content", "reason"), [("{}", "names no cluster that builds"), ("- a", "is no kubeconfig"), ("a: [", "is no YAML")]
)
def test_what_is_no_kubeconfig_is_said(tmp_path, content, reason):
    (tmp_path / "kubeconfig").write_text(content)
    with pytest.raises(JobError, match=reason):
        connect(environment={"KUBECONFIG": str(tmp_path / "kubeconfig")})


@pytest.fixture
def cluster(kubeconfig: Path) -> KubernetesCluster:
    return connect(environment={"KUBECONFIG": str(kubeconfig)})


SPEC = BuilderSpec.parse({"kind": "job", "secrets": ["a", "b"], "registry_secret": "login", "service_account": "builder"})


def test_all_that_a_namespace_lacks_is_said_at_once(apis, cluster):
    place = "/api/v1/namespaces/there"
    apis[0].status[f"{place}/secrets/b"] = 200
    with pytest.raises(SpecError) as caught:
        require_needs(cluster, SPEC, "there", ["weights"])
    said = str(caught.value).splitlines()
    fields = ["builder.secrets[0]", "builder.registry_secret", "builder.service_account", "source.url"]
    assert [line.partition(" = ")[0] for line in said] == fields
    assert "there is no Secret login in" in said[1]
    assert "there is no PersistentVolumeClaim weights in namespace there" in said[3]
    assert "kubectl create secret docker-registry login -n there" in said[1]
    assert all("as=PartialObjectMetadata" in accepted for _, accepted in apis[0].asked)


def test_a_namespace_that_is_not_there_is_said_alone(cluster):
    with pytest.raises(SpecError) as caught:
        require_needs(cluster, SPEC, "nowhere", [])
    assert str(caught.value).startswith("builder.namespace = 'nowhere': does not exist in the cluster. Fix: create it (kubectl")


def test_who_may_not_ask_is_told_nothing(apis, cluster):
    names = ("", "/secrets/a", "/secrets/b", "/secrets/login", "/serviceaccounts/builder")
    apis[0].status = {f"/api/v1/namespaces/there{name}": 403 for name in names}
    require_needs(cluster, SPEC, "there", [])
    apis[0].status["/api/v1/namespaces/there/secrets/a"] = 500
    with pytest.raises(JobError, match="HTTP 500"):
        require_needs(cluster, SPEC, "there", [])


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_an_api_server_that_cannot_answer_now_counts_as_one_that_does_not(apis, cluster, status):
    path = "/apis/batch/v1/namespaces/there/jobs/build"
    apis[0].status[path] = status
    with pytest.raises(UnreachableError, match=rf"HTTP {status}\): the cluster cannot answer now: no"):
        cluster.job("there", "build")
    apis[0].status[path] = 400
    with pytest.raises(JobError, match="refuses the Job") as caught:
        cluster.job("there", "build")
    assert not isinstance(caught.value, UnreachableError)
