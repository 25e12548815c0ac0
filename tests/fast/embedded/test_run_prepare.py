"""`prepare`: packages and tools ahead of the tests, and words where it cannot."""

import os

import pytest
from typer.testing import CliRunner

from gpuserve_embedded import cli, cluster
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.run import orphans, prepare
from gpuserve_embedded.tools import PROGRAMS


@pytest.fixture
def machine(monkeypatch):
    """A machine that has nothing; returns what was got for it."""
    got = {"packages": [], "tools": [], "orphans": []}

    def install(progress, *, for_tests=False):
        got["packages"].append(for_tests)
        return ["libpython3.11"] if for_tests else []

    monkeypatch.setattr(prepare, "is_root", lambda: True)
    # The real one would end those of test_run_orphans.py, which may run beside this.
    monkeypatch.setattr(prepare, "end_orphans", lambda *, engines: got["orphans"].append(engines))
    monkeypatch.setattr(cluster, "install", install)
    monkeypatch.setattr(cluster, "prepare", lambda _: got["tools"].append("the cluster's"))
    monkeypatch.setattr(prepare, "ensure_all", lambda names, _: got["tools"].extend(names))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name in orphans.mark():
        monkeypatch.setenv(name, "")  # which is set, and is another's after the test
    return got


def run(*arguments):
    return CliRunner().invoke(cli.app, ["prepare", *arguments])


def test_for_the_tests_gets_every_tool_that_can_be_built_and_names_what_is_not_to_be_had(machine):
    done = run("--tests")
    assert done.exit_code == 0
    assert machine["packages"] == [True]
    assert {"cosign", "promtool", "kubectl", "pulumi", "pulumi-resource-kubernetes"} <= set(machine["tools"])
    assert "pulumi-language-python" not in machine["tools"]  # there is no module to build it from
    assert "[1/2] Packages" in done.stdout
    assert "not to be had here: libpython3.11" in done.stdout


def test_without_the_tests_leaves_out_theirs(machine):
    assert run().exit_code == 0
    assert machine["packages"] == [False]
    assert not {name for name in machine["tools"] if name in PROGRAMS and PROGRAMS[name].for_tests}


def test_another_user_than_root_is_told_what_needs_none(machine, monkeypatch):
    monkeypatch.setattr(prepare, "is_root", lambda: False)
    done = run("--tests")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "make test-fast" in done.output
    assert machine == {"packages": [], "tools": [], "orphans": []}


def test_a_failure_is_said_in_words(machine, monkeypatch):
    def fail(_progress, **_):
        raise ClusterError("install packages", "buildah", "exit status 100", "mend what apt-get says")

    monkeypatch.setattr(cluster, "install", fail)
    done = run("--tests")
    assert done.exit_code == 1
    assert "fix: mend what apt-get says" in done.output
    assert "Traceback" not in done.output


def test_a_cluster_of_the_users_own_is_not_used_for_tests(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert f"KUBECONFIG={tmp_path}/config is not used" in run("--tests").stdout.replace("\n", "")


def test_what_a_killed_run_left_is_ended_first_and_what_this_one_starts_bears_its_mark(machine):
    run("--tests")
    assert machine["orphans"] == [False]  # engines may finish
    assert os.environ["GPUSERVE_RUN"] == orphans.mark()["GPUSERVE_RUN"]
