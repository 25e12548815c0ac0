"""Daemons are recognised for certain, and a failure says what to do."""

import subprocess
import sys
import time

import pytest

from gpuserve_embedded.cluster import processes
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.processes import Daemon


@pytest.fixture
def folders(tmp_path, monkeypatch):
    procs = tmp_path / "cgroup.procs"
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(processes, "PIDS", tmp_path / "pids")
    monkeypatch.setattr(processes.cgroups, "create_for", lambda _: procs)
    return tmp_path


@pytest.fixture
def sleeper(folders):
    daemon = Daemon("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], lambda: True, timeout_seconds=5)
    processes.start(daemon)
    yield daemon
    processes.stop("sleeper")


def test_a_daemon_is_recorded_and_enters_its_group_first(sleeper, folders) -> None:
    pid = processes.pid_of(sleeper)
    assert pid is not None
    deadline = time.monotonic() + 5
    while not (folders / "cgroup.procs").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert int((folders / "cgroup.procs").read_text()) == pid


def test_a_daemon_outlives_its_run_and_does_not_bear_its_mark(folders, monkeypatch) -> None:
    monkeypatch.setenv("GPUSERVE_RUN", "1 1")
    daemon = Daemon("printer", [sys.executable, "-c", "import os; print(*os.environ)"], lambda: True)
    processes.start(daemon)
    deadline = time.monotonic() + 5
    while not daemon.log.read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {"HOME", "PATH"} <= set(daemon.log.read_text().split())
    assert "GPUSERVE_RUN" not in daemon.log.read_text()


def test_starting_twice_is_starting_once(sleeper) -> None:
    pid = processes.pid_of(sleeper)
    processes.start(sleeper)
    assert processes.pid_of(sleeper) == pid


def test_stopping_ends_it_and_twice_is_no_error(sleeper) -> None:
    processes.stop("sleeper")
    assert processes.pid_of(sleeper) is None
    processes.stop("sleeper")


def test_one_that_ignores_a_gentle_end_is_ended_all_the_same(folders, monkeypatch) -> None:
    monkeypatch.setattr(processes, "_STOP_TIMEOUT_SECONDS", 0.3)
    stubborn = Daemon("stubborn", ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], lambda: True)
    processes.start(stubborn)
    deadline = time.monotonic() + 5
    while "ready" not in processes.tail(stubborn.log) and time.monotonic() < deadline:
        time.sleep(0.01)
    processes.stop("stubborn")
    assert processes.pid_of(stubborn) is None


def test_a_process_that_only_has_the_same_id_is_never_ended(folders) -> None:
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        daemon = Daemon("old", ["old"], lambda: True)
        daemon.pid_file.parent.mkdir()
        daemon.pid_file.write_text(f"{innocent.pid} 1 {processes.boot_id()}\n")
        assert processes.pid_of(daemon) is None
        processes.stop("old")
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_ids_of_another_boot_mean_nothing(sleeper) -> None:
    pid, started, _ = sleeper.pid_file.read_text().split()
    sleeper.pid_file.write_text(f"{pid} {started} another-boot\n")
    assert processes.pid_of(sleeper) is None
    sleeper.pid_file.write_text(f"{pid} {started} {processes.boot_id()}\n")


def test_half_a_process_file_is_no_process(sleeper) -> None:
    whole = sleeper.pid_file.read_text()
    sleeper.pid_file.write_text("12")
    assert processes.pid_of(sleeper) is None
    sleeper.pid_file.write_text(whole)


def test_one_that_ends_at_once_is_an_error_with_its_last_words(folders) -> None:
    daemon = Daemon("broken", ["/bin/sh", "-c", "echo the disk is full >&2; exit 3"], lambda: True, timeout_seconds=5)
    processes.start(daemon)
    time.sleep(0.3)
    with pytest.raises(ClusterError) as caught:
        processes.wait_healthy(daemon)
    message = str(caught.value)
    assert "start broken" in message
    assert "the disk is full" in message
    assert "fix:" in message


def test_one_that_is_never_healthy_is_an_error_within_its_time(folders) -> None:
    daemon = Daemon("silent", ["sleep", "60"], is_healthy=lambda: False, timeout_seconds=0.3)
    processes.start(daemon)
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"not healthy within 0\.3 s"):
        processes.wait_healthy(daemon)
    assert time.monotonic() - began < 2
    processes.stop("silent")


def test_a_command_that_fails_says_which_and_why() -> None:
    with pytest.raises(ClusterError) as caught:
        processes.run("look", ["/bin/sh", "-c", "echo no such thing >&2; exit 4"], fix="look elsewhere")
    assert "exit status 4" in str(caught.value)
    assert "no such thing" in str(caught.value)
    assert "look elsewhere" in str(caught.value)


def test_a_command_that_is_not_there_says_so() -> None:
    with pytest.raises(ClusterError, match="not installed"):
        processes.run("look", ["no-such-program-anywhere"], fix="install it")


def test_no_answer_is_not_healthy() -> None:
    assert not processes.url_answers("http://127.0.0.1:1/")()
