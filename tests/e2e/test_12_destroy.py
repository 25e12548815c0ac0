"""`pulumi destroy` by hand, and `up` after it, even when it is killed half-way."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from e2e_cluster import NAMESPACE, ROOT, run, wait_for
from e2e_stack import Stack, command

pytestmark = pytest.mark.e2e


TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def test_destroy_removes_what_the_stack_made_and_nothing_else(stack: Stack):
    (node,) = stack.cluster.get("nodes")
    assert node["metadata"]["labels"]["gpuserve.io/pool"] == "local"
    assert TAINT in node["spec"]["taints"]
    done = run(
        ["pulumi", "--non-interactive", "destroy", "-s", "local", "--yes", "--skip-preview"], stack.variables, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    namespaces = {found["metadata"]["name"] for found in stack.cluster.get("namespaces")}
    assert NAMESPACE not in namespaces
    assert {"monitoring", "gateway-system", "kube-system"} <= namespaces
    (node,) = stack.cluster.get("nodes")
    assert "gpuserve.io/pool" not in node["metadata"]["labels"]
    assert not [taint for taint in node["spec"].get("taints", []) if taint["key"] == TAINT["key"]]
    assert "gpuserve-rules" not in stack.cluster.kubectl("get", "configmaps", "-n", "monitoring", "-o", "name")


def test_up_that_was_killed_half_way_is_completed_by_the_next(stack: Stack, unprepared: Path):
    up = subprocess.Popen(
        [sys.executable, "-m", "gpuserve_embedded", "up"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for("the first server's Deployment", lambda: _deployments(stack) or up.poll() is not None, seconds=240)
        assert up.poll() is None, "it ended before it could be killed"
    finally:
        _kill_with_descendants(up.pid)
        up.wait()
    # As where the engine was at its state just then: the notes beside that file are begun anew each time.
    (notes,) = Path(stack.variables["PULUMI_BACKEND_URL"].removeprefix("file://")).glob(".pulumi/stacks/*/local.json.attrs")
    notes.write_bytes(b"")
    again = command("up", "--json", "--file", str(unprepared), timeout=600)
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["prediction"].startswith("csv ")
    assert _but_for_the_ca(answer["services"]) == _but_for_the_ca(stack.answer["services"])  # which is a new one
    # An autoscaler is ready with its first measurement, some seconds after the first request.
    status = [ROOT / ".venv/bin/gpuserve", "status", "-s", "local"]
    wait_for("everything is ready", lambda: run(status, stack.variables).returncode == 0, seconds=60, every=2)
    preview = run(["pulumi", "--non-interactive", "preview", "-s", "local", "--expect-no-changes"], stack.variables)
    assert preview.returncode == 0, preview.stdout


def _but_for_the_ca(services: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: value for key, value in facts.items() if key != "ca"} for name, facts in services.items()}


def _deployments(stack: Stack) -> bool:
    return "deployment.apps/" in stack.cluster.kubectl("get", "deployments", "-n", NAMESPACE, "-o", "name", check=False)


def _kill_with_descendants(pid: int) -> None:
    """Kill a process and all below it, each before it can notice that the others are gone; some end by themselves with their parent."""
    family = [pid]
    for member in family:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(member, signal.SIGSTOP)
            children = Path(f"/proc/{member}/task").glob("*/children")
            family += [int(child) for file in children for child in file.read_text().split()]
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    time.sleep(0.5)
