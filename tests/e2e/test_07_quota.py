"""What is over the pool's quota is refused by the API server, and `gpuserve status` says so."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_cluster import GPUS, NAMESPACE, ROOT, Cluster, holder, run, wait_for
from e2e_stack import Stack

pytestmark = pytest.mark.e2e


def _status(stack: Stack) -> tuple[int, dict[str, Any]]:
    done = run([ROOT / ".venv/bin/gpuserve", "status", "-s", "local", "--json"], stack.variables)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["services"]["filetype"]


def test_a_pod_over_the_quota_is_refused(quiet: Cluster):
    said = quiet.kubectl("create", "-f", "-", stdin=json.dumps(holder(quiet, "too-many", 7)), check=False)
    assert "exceeded quota" in said
    assert GPUS in said


@pytest.fixture
def full_quota(quiet: Cluster) -> Iterator[None]:
    """Somebody else's pod has taken what the two servers left of the six GPUs."""
    quiet.apply(holder(quiet, "holder", 4))
    wait_for("the other pod", lambda: "holder" in quiet.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name"), seconds=10)
    yield
    quiet.kubectl("delete", "pod", "holder", "-n", NAMESPACE, "--wait=true")


def test_status_names_the_quota_that_refuses_a_replica(stack: Stack, quiet: Cluster, full_quota: None):
    def least(replicas: int) -> None:
        quiet.kubectl("patch", "hpa", "filetype-int8", "-n", NAMESPACE, "-p", json.dumps({"spec": {"minReplicas": replicas}}))

    least(2)
    try:
        code, found = wait_for(
            "the refusal", lambda: (answer := _status(stack)) and not answer[1]["ready"] and answer, seconds=60
        )
        assert code == 1
        if "exceeded quota" not in found["blocked_by"]["reason"]:  # seen between the wish and the refusal
            code, found = _status(stack)
        assert code == 1
        assert found["blocked_by"]["object"] == f"ResourceQuota {NAMESPACE}/local"
        assert "exceeded quota" in found["blocked_by"]["reason"]
        assert found["parts"]["pods fp32"]["ready"]
    finally:
        least(1)
    wait_for("everything is ready again", lambda: _status(stack)[0] == 0, seconds=120, every=2)
