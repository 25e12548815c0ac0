"""A version that takes over from another: requests go to it when it is ready, and to the old one until then."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_cluster import Cluster, wait_for
from e2e_stack import Stack, Workshop
from e2e_traffic import Load

pytestmark = pytest.mark.e2e

NAME = "swap"
PLACE = f"gpuserve-{NAME}"


@pytest.fixture
def swap(stack: Stack, workshop: Workshop) -> Iterator[Workshop]:
    """A stack whose service has one version, `fp32`."""
    workshop.pulumi("stack", "init", NAME)
    write(workshop, "fp32")
    up = workshop.pulumi("up", "--yes", "--skip-preview", "-s", NAME)
    assert up.returncode == 0, up.stdout + up.stderr
    yield workshop
    workshop.close(NAME, stack.cluster)


def write(workshop: Workshop, build: str) -> None:
    """Write a stack whose quota holds one server: a second one waits until the test lets it in."""
    pool = {"name": NAME, "accelerator": "simulated", "gpus": 2, "quota": {"gpus": 1}}
    service = {"versions": [{"build": build, "weight": 100}], "rollout": "in-place"}
    workshop.write_stack(NAME, pools=[pool], service=service)


def split(cluster: Cluster) -> dict[str, int]:
    found: dict[str, Any] = cluster.get("traefikservices.traefik.io", NAME, "-n", PLACE)
    return {service["name"]: service["weight"] for service in found["spec"]["weighted"]["services"]}


def servers(cluster: Cluster) -> set[str]:
    return {found["metadata"]["name"] for found in cluster.get("deployments", "-n", PLACE)}


def waits(cluster: Cluster, server: str) -> bool:
    """Tell whether a server is there, and its pod is refused."""
    if server not in servers(cluster):
        return False
    conditions = cluster.get("deployment", server, "-n", PLACE)["status"].get("conditions", [])
    return any(found["type"] == "ReplicaFailure" and "exceeded quota" in found["message"] for found in conditions)


def test_no_request_meets_a_version_that_is_not_ready(stack: Stack, swap: Workshop):
    cluster, old, new = stack.cluster, f"{NAME}-fp32", f"{NAME}-int8"
    write(swap, "int8")
    command = ["pulumi", "--non-interactive", "--color", "never", "up", "--yes", "--skip-preview", "-s", NAME]
    environment = {**os.environ, **swap.variables}
    with Load(stack.url, threads=2, pause=0.02, host=f"{NAME}.example.com") as load:
        wait_for("the load", lambda: load.sent > 50, seconds=20)
        with subprocess.Popen(
            command, cwd=swap.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as up:
            try:
                wait_for("a new server without room", lambda: waits(cluster, new), seconds=120)
                sent = load.sent
                wait_for("requests meanwhile", lambda: load.sent > sent + 50, seconds=20)
                assert split(cluster) == {old: 100}
            finally:
                room = {"spec": {"hard": {"requests.nvidia.com/gpu": "2"}}}
                cluster.kubectl("patch", "resourcequota", NAME, "-n", PLACE, "--type=merge", "-p", json.dumps(room))
                said = up.communicate(timeout=300)[0]
        assert up.returncode == 0, said
        assert split(cluster) == {new: 100}
        assert servers(cluster) == {new}
        sent = load.sent
        wait_for("requests to the new server", lambda: load.sent > sent + 50, seconds=20)
    assert set(load.outcomes) == {"200"}, load.outcomes
