"""What a killed run leaves in its temporary files goes with the cluster."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gpuserve.cli.environment import adopt_environment
from gpuserve_embedded.cluster.layout import KUBECONFIG, STATE, TEMPORARY
from gpuserve_embedded.run import environment

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
