"""What stops a start before anything is built, and that two are kept apart."""

import fcntl
import stat

import pytest
from typer.testing import CliRunner

from gpuserve_embedded import cli, cluster
from gpuserve_embedded.cluster import layout, lifecycle
from gpuserve_embedded.cluster.errors import ClusterError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine on which a cluster could start."""
    setting = tmp_path / "ip_forward"
    setting.touch()
    monkeypatch.setattr(lifecycle.ports, "is_root", lambda: True)
    monkeypatch.setattr(lifecycle.ports, "check_free", lambda **_: None)
    monkeypatch.setattr(lifecycle.network, "check_free", lambda: None)
    monkeypatch.setattr(lifecycle.network, "FORWARDING", setting)
    monkeypatch.setattr(lifecycle.cgroups, "hierarchies", lambda: [tmp_path])
    monkeypatch.setattr(lifecycle, "daemons_serve", lambda: False)
    monkeypatch.setattr(lifecycle, "LOCK", tmp_path / "gpuserve.lock")
    return tmp_path


def test_a_machine_that_can_be_changed_passes(machine):
    cluster.check()


@pytest.mark.parametrize("refused", ["ip_forward", ""])
def test_an_ordinary_container_is_refused_before_tools_are_built(refused, machine, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: path != machine / refused)
    with pytest.raises(ClusterError, match=r"ordinary container(.|\n)*fix: .*--privileged") as raised:
        cluster.check()
    assert raised.value.subject == str(machine / refused)


def test_a_machine_without_control_groups_is_refused(machine, monkeypatch):
    monkeypatch.setattr(lifecycle.cgroups, "hierarchies", list)
    with pytest.raises(ClusterError, match="no control groups are mounted"):
        cluster.check()


def test_the_lock_is_the_machines():
    assert layout.LOCK.parent == layout.RUN.parent  # which a reboot empties, and where a stop removes nothing else


def test_two_users_do_not_start_or_stop_at_once(machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "one"))
    with lifecycle._alone():
        assert stat.S_IMODE(lifecycle.LOCK.stat().st_mode) == 0o600
        monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "another"))
        with pytest.raises(ClusterError, match="another start or stop is at work"), lifecycle._alone():
            pass
    with lifecycle.LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("command", ["start", "stop", "status"])
def test_whatever_fails_is_said_in_words(command, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "/var/lib/kubelet/device-plugins")

    monkeypatch.setattr(cluster, command, fail)
    done = CliRunner().invoke(cli.app, ["cluster", command])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "Permission denied" in done.output
