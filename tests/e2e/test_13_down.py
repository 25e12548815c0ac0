"""`make down` leaves nothing behind; a port in use stops the next `up` before it makes anything."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from e2e_cluster import ROOT, run, wait_for
from e2e_machine import Machine
from e2e_stack import Stack, command

from gpuserve_embedded.cluster import cgroups
from gpuserve_embedded.cluster.layout import cache_folder

pytestmark = pytest.mark.e2e


@pytest.mark.usefixtures("stack")
def test_no_process_of_the_cluster_is_taken_for_one_of_the_run_that_started_it():
    bearing: list[str] = []
    for pid, command_line in cgroups.processes().items():
        with suppress(OSError):
            if b"GPUSERVE_RUN=" in Path(f"/proc/{pid}/environ").read_bytes():
                bearing.append(command_line)
    assert bearing == []


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
    with _up_at(step) as up:
        time.sleep(5)  # into the step, which takes longer
        assert up.poll() is None, "it ended before it could be killed"
        up.kill()
    done = command("down")
    assert done.returncode == 0, done.stderr
    machine.assert_nothing_left()  # the engine, the provider and the rest of what it started included


def test_down_after_an_up_that_was_killed_while_it_built_an_image(stack: Stack, machine: Machine, cold: Path):
    work = cold / "gpuserve" / "buildah"
    variables = {"XDG_CACHE_HOME": str(cold)}
    with _up_at("Base image", variables) as up:
        wait_for("buildah's mount", lambda: up.poll() is not None or str(work) in _mounts(), seconds=300)
        assert up.poll() is None, "it ended before it could be killed"
        up.kill()
    assert str(work) in _mounts()
    done = command("down", variables=variables)
    assert done.returncode == 0, done.stderr
    machine.assert_nothing_left()
    assert str(cold) not in _mounts()
    assert _rooted_below(cold) == []
    assert not work.exists()


@pytest.fixture
def cold() -> Iterator[Path]:
    """A cache beside the real one, with its tools and with its registry's images, but for the servers' base images."""
    real = cache_folder()
    folder = Path(tempfile.mkdtemp(prefix="cold-", dir=real))
    (folder / "gpuserve").mkdir()
    for name in ("tools", "crds"):
        (folder / "gpuserve" / name).symlink_to(real / name)
    images, copy = (cache / "registry/docker/registry/v2" for cache in (real, folder / "gpuserve"))
    shutil.copytree(images / "blobs", copy / "blobs", copy_function=os.link)  # which the registry never changes
    shutil.copytree(images / "repositories", copy / "repositories")
    shutil.rmtree(copy / "repositories/gpuserve/triton-cpu")
    yield folder
    shutil.rmtree(folder)


@contextmanager
def _up_at(step: str, variables: dict[str, str] | None = None) -> Generator["subprocess.Popen[str]"]:
    """Run `up` in a session of its own, and go on when it begins a step."""
    up = subprocess.Popen(
        [sys.executable, "-m", "gpuserve_embedded", "up", "--json"],
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
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
        try:
            yield up
        finally:
            up.kill()


def _mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def _rooted_below(folder: Path) -> list[str]:
    """Return the processes whose root is below a folder: those of an image that is built have an environment of its own."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "root").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
    return found


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
