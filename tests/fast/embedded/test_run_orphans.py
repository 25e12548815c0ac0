"""What a killed run left is found by its mark and ended; what belongs to a living run, or to none, is left alone."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from gpuserve_embedded.cluster.packages import FINISHES
from gpuserve_embedded.cluster.processes import start_time
from gpuserve_embedded.run import orphans
from gpuserve_embedded.run.orphans import end_orphans, mark

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
CONTAINER = ["unshare", "--map-root-user", "--pid", "--fork"]
GONE = {"GPUSERVE_RUN": f"{os.getpid()} 1"}
"""The mark of a run that had this process's id, but started at boot."""


@pytest.fixture
def sleeping():
    processes = []

    def start(variables, command=SLEEP):
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_ends_what_belongs_to_a_run_that_is_gone_and_nothing_else(sleeping):
    run = subprocess.run(
        [sys.executable, "-c", "from gpuserve_embedded.run.orphans import mark; print(mark()['GPUSERVE_RUN'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    orphan, own, stranger = sleeping({"GPUSERVE_RUN": run.stdout.strip()}), sleeping(mark()), sleeping({})
    end_orphans()
    assert orphan.wait(timeout=1) != 0
    assert own.poll() is None
    assert stranger.poll() is None


def test_a_process_id_that_was_given_again_is_another_run(sleeping):
    orphan = sleeping(GONE)
    end_orphans()
    assert orphan.wait(timeout=1) != 0


def test_a_run_in_another_container_is_let_be(sleeping):
    """Its process ids are not this one's: the run that the mark names lives there."""
    elsewhere = sleeping({**GONE, "GPUSERVE_RUN_NAMESPACE": "pid:[1]"})
    end_orphans()
    assert elsewhere.poll() is None


def can_contain():
    return shutil.which("unshare") is not None and subprocess.run([*CONTAINER, "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_contain(), reason="this machine lets nobody make containers")
@pytest.mark.parametrize("named", [True, False])
def test_what_a_run_put_into_a_container_is_its_own_where_its_mark_says_so(named, sleeping, monkeypatch):
    """Older runs' marks do not say whose process ids they name: such a mark is taken for one of the container's."""
    monkeypatch.setattr(orphans, "_GRACE_SECONDS", 0.5)
    variables = {**GONE, **({"GPUSERVE_RUN_NAMESPACE": str(Path("/proc/self/ns/pid").readlink())} if named else {})}
    builder = sleeping(variables, [*CONTAINER, "sh", "-c", "echo; sleep 600; :"])
    inside = int(Path(f"/proc/{builder.pid}/task/{builder.pid}/children").read_text())
    try:
        end_orphans()
        assert (start_time(inside) is None) is named
    finally:
        with suppress(ProcessLookupError):
            os.kill(inside, signal.SIGKILL)


def test_what_a_marked_process_started_with_an_environment_of_its_own_is_ended_too():
    child = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], env={}).pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", child]
    with subprocess.Popen(command, env={**os.environ, **GONE}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        grandchild = int(orphan.stdout.readline())
        assert start_time(grandchild)
        end_orphans()
    assert start_time(grandchild) is None


def test_engines_are_left_to_finish_where_that_is_asked(sleeping):
    engine, builder = sleeping({**mark(engine=True), **GONE}), sleeping(GONE)
    end_orphans(engines=False)
    assert builder.wait(timeout=1) != 0
    assert engine.poll() is None
    end_orphans()
    assert engine.wait(timeout=1) != 0


@pytest.mark.slow
def test_an_installation_of_packages_is_waited_for(sleeping):
    finishing = [sys.executable, "-c", "import time; print(flush=True); time.sleep(0.7)"]
    installation = sleeping({**GONE, FINISHES: "1"}, finishing)
    said = []
    end_orphans(said.append)
    assert installation.wait(timeout=1) == 0
    assert f"process {installation.pid}" in said[0]


def test_a_process_does_not_end_itself_nor_those_above_it():
    """It was started from a shell of a run that has ended."""
    code = "from gpuserve_embedded.run.orphans import end_orphans; end_orphans(); print('lives')"
    above = ["sh", "-c", '"$0" -c "$1"; echo so does its shell', sys.executable, code]
    # Another test's process may clean up meanwhile, and is right to end them.
    tries = (subprocess.run(above, env={**os.environ, **GONE}, capture_output=True, text=True, check=False) for _ in range(3))
    assert any(done.stdout == "lives\nso does its shell\n" for done in tries)
