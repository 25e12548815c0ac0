"""What a killed run leaves in its temporary files goes with the cluster, or with the next run on one's own."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests.utils

from gpuserve.cli.environment import adopt_environment
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import KUBECONFIG, STATE, TEMPORARY
from gpuserve_embedded.run import down as run_down
from gpuserve_embedded.run import environment
from gpuserve_embedded.run import up as run_up
from gpuserve_embedded.run.steps import Steps

LEAVE_A_FILE = "import os, signal, tempfile; tempfile.mkstemp(); os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "state" / "tmp"
    folder.parent.mkdir()
    monkeypatch.setattr(environment, "TEMPORARY", folder)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_temporary_files_go_with_the_cluster(temporary):
    assert TEMPORARY.parent == STATE  # which `stop` removes
    tempfile.gettempdir()  # what was asked for before is not kept
    environment.keep_temporary_files()
    environment.keep_temporary_files()  # and again is no error
    assert tempfile.gettempdir() == str(temporary)


def test_the_temporary_files_of_a_killed_program_lie_there_too(temporary):
    environment.keep_temporary_files()
    done = subprocess.run([sys.executable, "-c", LEAVE_A_FILE], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(temporary.iterdir())) == 1


@pytest.mark.usefixtures("temporary")
def test_on_a_cluster_of_ones_own_they_go_with_the_run_and_so_do_those_of_killed_ones(tmp_path):
    place, before = tmp_path / ".gpuserve" / "temporary", tempfile.gettempdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (gone.pid, os.getppid()):
        (place / str(pid)).mkdir(parents=True)
        (place / str(pid) / "kubeconfig").touch()
    with environment.own_temporary_files(tmp_path):
        own = place / str(os.getpid())
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(own)
        assert own.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in place.iterdir()} == {own.name, str(gone.pid), str(os.getppid())}
        tempfile.mkstemp()
    assert [path.name for path in place.iterdir()] == [str(os.getppid())]
    assert tempfile.gettempdir() == before


@pytest.mark.parametrize("own_cluster", [False, True])
def test_gpuserve_is_told_the_stack_and_pulumi_is_left_its_selection(own_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/own/kubeconfig" if own_cluster else str(KUBECONFIG))
    monkeypatch.setattr(environment, "prepare_pulumi", lambda folder, *_: folder.mkdir())
    monkeypatch.setattr(environment, "ensure", lambda *_: tmp_path / "kubectl")
    values = environment.prepare(tmp_path, "staging", print)
    assert "PULUMI_STACK" not in values
    assert "PULUMI_STACK" not in environment.exports(tmp_path)
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    adopt_environment(tmp_path)
    assert os.environ["PULUMI_STACK"] == "staging"
    assert ("KUBECONFIG" in os.environ) is not own_cluster


@pytest.fixture
def shell(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    return os.environ


OURS = "localhost,127.0.0.1,10.244.0.0/16,10.96.0.0/16"


def test_without_a_proxy_nothing_is_said_about_one(shell, tmp_path):
    shell["NO_PROXY"] = "example.com"
    assert "NO_PROXY" not in environment.variables(tmp_path)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, OURS),
        ({"NO_PROXY": ""}, OURS),
        (
            {"NO_PROXY": "a.com, localhost", "no_proxy": "b.com,a.com"},
            f"a.com,localhost,b.com,{OURS.removeprefix('localhost,')}",
        ),
    ],
)
def test_behind_a_proxy_the_cluster_is_asked_without_it(name, said, wanted, shell, tmp_path):
    shell.update({name: "http://proxy.example.com:3128", **said})
    for _ in range(2):  # of what was said already nothing is said twice
        values = environment.variables(tmp_path)
        assert (values["NO_PROXY"], values["no_proxy"]) == (wanted, wanted)
        shell.update(values)
    for url in ("http://127.0.0.1:8080/v2", "https://10.244.0.1:6443", "http://10.96.0.90:9090", "http://localhost:5000/v2/"):
        assert requests.utils.should_bypass_proxies(url, no_proxy=wanted)
    assert not requests.utils.should_bypass_proxies("https://example.com", no_proxy=wanted)


def test_with_a_cluster_of_ones_own_the_proxy_is_ones_own_affair(shell, tmp_path):
    shell.update({"http_proxy": "http://proxy.example.com:3128", "KUBECONFIG": "/own/kubeconfig"})
    assert list(environment.variables(tmp_path)) == ["PATH"]


def test_up_keeps_its_own_requests_from_the_proxy(shell, monkeypatch):
    shell["https_proxy"] = "http://proxy.example.com:3128"
    monkeypatch.setattr(run_up, "open_stack", lambda *_: SimpleNamespace(name="local", environment=None))
    monkeypatch.setattr(run_up.cluster, "check", lambda _: None)
    monkeypatch.setattr(run_up, "end_orphans", lambda *_, **__: None)
    seen = {}

    def prepare(*_):
        seen.update(shell)
        raise ClusterError("prepare", "nothing", "enough was seen", "none")

    monkeypatch.setattr(environment, "prepare", prepare)
    with pytest.raises(ClusterError, match="enough was seen"):
        run_up.up("local", Path("README.md"), Steps(total=6, stderr=True))
    assert seen["no_proxy"] == OURS


@pytest.mark.parametrize("own_cluster", [False, True])
def test_down_takes_away_what_up_told_plain_shells(own_cluster, tmp_path, monkeypatch):
    """It would hide the user's own kubeconfig behind one that is gone."""
    monkeypatch.setenv("KUBECONFIG", "/own/kubeconfig" if own_cluster else str(KUBECONFIG))
    monkeypatch.setattr(environment, "checkout", lambda: tmp_path)
    monkeypatch.setattr(run_down, "end_orphans", lambda _: None)
    monkeypatch.setattr(run_down, "stop", lambda: None)
    monkeypatch.setattr(run_down, "Pulumi", lambda *_: SimpleNamespace(destroy=lambda _: None))
    (tmp_path / ".gpuserve").mkdir()
    file = tmp_path / ".gpuserve" / "env"
    file.touch()
    for _ in range(2):
        run_down.down("local", Steps(total=1, stderr=True))
        assert file.exists() is own_cluster
