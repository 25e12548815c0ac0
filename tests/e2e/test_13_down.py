"""`make down` leaves nothing behind; a port in use stops the next `up` before it makes anything."""

import socket
import subprocess
import sys
import time

import pytest
from e2e_cluster import ROOT, run
from e2e_machine import Machine
from e2e_stack import Stack, command

pytestmark = pytest.mark.e2e


def test_down_leaves_no_process_mount_bridge_or_rule(stack: Stack, machine: Machine):
    done = command("down")
    assert done.returncode == 0, done.stderr
    machine.assert_nothing_left()


def test_down_again_is_no_error(stack: Stack, machine: Machine):
    done = command("down")
    assert done.returncode == 0, done.stderr
    machine.assert_nothing_left()


@pytest.mark.parametrize("step", ["Cluster", "pulumi up"])
def test_down_after_an_up_that_was_killed(stack: Stack, machine: Machine, step: str):
    up = subprocess.Popen(
        [sys.executable, "-m", "gpuserve_embedded", "up", "--json"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with up:
        assert up.stderr is not None
        for line in up.stderr:
            if f"] {step}" in line and "done" not in line:
                break
        time.sleep(5)  # into the step, which takes longer
        assert up.poll() is None, "it ended before it could be killed"
        up.kill()
    done = command("down")
    assert done.returncode == 0, done.stderr
    machine.assert_nothing_left()  # the engine, the provider and the rest of what it started included


def test_status_without_a_cluster_says_so(stack: Stack):
    done = run([ROOT / ".venv/bin/gpuserve", "status", "-s", "local"], stack.variables)
    assert done.returncode == 1
    assert "Fix:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named_before_anything_is_made(stack: Stack, machine: Machine):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 8080))
        taken.listen()
        done = command("up")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "8080" in said
    assert "python" in said  # who has it
    assert "Traceback" not in said
    machine.assert_nothing_left()
