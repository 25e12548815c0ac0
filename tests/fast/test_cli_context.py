"""The cluster that `status` and `predict` ask: the one that the stack file names, as `pulumi up` does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuserve.cli import cluster
from gpuserve.cli.cluster import connect
from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.errors import SpecError
from gpuserve.platform.cluster import cluster_choice

NAMES = ("dev", "prod")
KUBECONFIG = {
    "current-context": "dev",
    "clusters": [{"name": name, "cluster": {"server": f"http://{name}.example.com"}} for name in NAMES],
    "users": [{"name": "me", "user": {"token": "hunter2"}}],
    "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in NAMES],
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Write a kubeconfig for the environment, and stand for all its clusters; return whom somebody asked."""
    (tmp_path / "config").write_text(yaml.safe_dump(KUBECONFIG))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    found: list[str] = []

    class Nothing:
        def __init__(self, client: Any) -> None:
            found.append(client.configuration.host)
            assert "Bearer hunter2" in client.configuration.api_key.values()

        def get(self, *_: object) -> None:
            return None

        def list(self, *_: object) -> list[object]:
            return []

    monkeypatch.setattr(cluster, "Cluster", Nothing)
    return found


def written(sandbox: Any, **values: object) -> None:
    given = {f"kubernetes:{key}": value for key, value in values.items()}
    sandbox.stack_file.write_text(yaml.safe_dump({"config": {**given, "gpuserve:platform": sandbox.platform}}))


@pytest.fixture
def ask(cli: Callable[..., Any], sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr("gpuserve_images.verify.attached.attached_capacity", lambda _: None)

    def run(command: str, *arguments: object) -> Any:
        env = {"KUBECONFIG": str(tmp_path / "config")}
        return cli(command, *arguments, "-s", "local", "--stacks", sandbox.stacks, env=env)

    return run


@pytest.mark.parametrize(
    ("values", "host"),
    [({}, "dev"), ({"context": "prod"}, "prod"), ({"cluster": "prod"}, "prod"), ({"context": "prod", "cluster": "dev"}, "dev")],
)
def test_status_asks_the_cluster_of_the_stack_file(
    values: dict[str, str], host: str, sandbox: Any, ask: Callable[..., Any], asked: list[str]
) -> None:
    written(sandbox, **values)
    result = ask("status", "--json")
    assert json.loads(result.stdout)["services"]["tiny"]["ready"] is False, result.stderr
    assert asked == [f"http://{host}.example.com"]


def test_predict_asks_the_cluster_of_the_stack_file(sandbox: Any, ask: Callable[..., Any], asked: list[str]) -> None:
    written(sandbox, context="prod")
    assert "no address yet" in ask("predict", "tiny", sandbox.models / "samples" / "0.npz", "--json").stderr
    assert asked == ["http://prod.example.com"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"context": "prdo"}, ["kubernetes:context = 'prdo': is no context of", "did you mean 'prod'?"]),
        ({"cluster": "prdo"}, ["kubernetes:cluster = 'prdo': is no cluster of", "did you mean 'prod'?"]),
        ({"context": {"secure": "v1:abc"}}, ["kubernetes:context: is encrypted", "in plain"]),
        ({"kubeconfig": "missing"}, ["kubernetes:kubeconfig = 'missing': is no file that exists"]),
        ({"kubeconfig": "a: b\nc: ["}, ["kubernetes:kubeconfig: is no kubeconfig"]),
        ({"kubeconfig": "- hunter2\n- b"}, ["kubernetes:kubeconfig: is no kubeconfig"]),
        ({"kubeconfig": {"users": "hunter2"}}, ["kubernetes:kubeconfig: names no cluster"]),
    ],
)  # fmt: skip
def test_what_the_kubeconfig_does_not_have_is_named(
    values: dict[str, Any], words: list[str], sandbox: Any, ask: Callable[..., Any], asked: list[str]
) -> None:
    written(sandbox, **values)
    for command in (["status", "--json"], ["predict", "tiny", sandbox.models / "samples" / "0.npz"]):
        result = ask(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"{sandbox.stack_file}: config.kubernetes:")
        for word in (*words, "Fix: "):
            assert word in result.stderr
        assert "Traceback" not in result.stderr
        assert "hunter2" not in result.stderr
    assert asked == []


@pytest.mark.parametrize("form", ["path", "home", "text", "object"])
def test_the_kubeconfig_of_the_stack_file_comes_first(
    form: str, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own = {**KUBECONFIG, "current-context": "prod"}
    (tmp_path / "own").write_text(yaml.safe_dump(own))
    given = {"path": str(tmp_path / "own"), "home": "~/own", "text": yaml.safe_dump(own), "object": own}[form]
    connect(chosen=cluster_choice({"kubernetes:kubeconfig": given}, "Pulumi.prod.yaml"))
    assert asked == ["http://prod.example.com"]


def test_for_an_encrypted_kubeconfig_that_of_the_environment_is_taken_and_said(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = cluster_choice({"kubernetes:kubeconfig": {"secure": "v1:abc"}, "kubernetes:context": "prod"}, "Pulumi.prod.yaml")
    connect(chosen=chosen)
    assert asked == ["http://prod.example.com"]
    assert "Pulumi.prod.yaml: config.kubernetes:kubeconfig is encrypted; KUBECONFIG is taken" in capsys.readouterr().err
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(SpecError, match="is encrypted, and only Pulumi can read it") as caught:
        connect(chosen=chosen)
    assert "abc" not in str(caught.value)


def test_a_stack_file_without_any_leaves_it_to_the_environment() -> None:
    assert cluster_choice({"kubernetes:namespace": "ml"}, "f") == ClusterChoice(file="f")
    assert cluster_choice({"kubernetes:context": 5}, "f").context == "5"
    assert AMBIENT.context is None
