"""What a pool does not allow is refused by the API server: GPUs over the quota, of which `gpuserve status` tells, root, evictions."""

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


def test_a_pod_that_runs_as_root_is_refused(quiet: Cluster):
    pod = holder(quiet, "root", 1)
    dry_run = ("apply", "--dry-run=server", "-f", "-")
    assert "created" in quiet.kubectl(*dry_run, stdin=json.dumps(pod))
    pod["spec"]["securityContext"].update(runAsNonRoot=False, runAsUser=0)
    said = quiet.kubectl(*dry_run, stdin=json.dumps(pod), check=False)
    assert 'violates PodSecurity "restricted' in said
    assert "runAsNonRoot" in said


def _budget(cluster: Cluster, version: str) -> int:
    """Return how many of the version's pods may be evicted now."""
    return cluster.get("poddisruptionbudget", f"filetype-{version}", "-n", NAMESPACE)["status"]["disruptionsAllowed"]


def _ask_to_evict(cluster: Cluster, pod: str) -> str:
    """Return what the API server says to an eviction, which it only plays through."""
    metadata = {"name": pod, "namespace": NAMESPACE}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": {"dryRun": ["All"]}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    return cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction), check=False)


def test_an_only_replica_may_be_evicted_so_that_its_node_can_be_drained(quiet: Cluster):
    wait_for("the budget", lambda: _budget(quiet, "fp32") == 1, seconds=30)
    (pod,) = quiet.pods("fp32")
    assert '"Success"' in _ask_to_evict(quiet, pod["metadata"]["name"])


@pytest.fixture
def full_quota(quiet: Cluster) -> Iterator[None]:
    """Somebody else's pod has taken what the two servers left of the six GPUs."""
    quiet.apply(holder(quiet, "holder", 4))
    wait_for("the other pod", lambda: "holder" in quiet.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name"), seconds=10)
    yield
    quiet.kubectl("delete", "pod", "holder", "-n", NAMESPACE, "--wait=true")


def test_status_names_the_quota_that_refuses_a_replica_and_the_other_may_not_be_evicted(
    stack: Stack, quiet: Cluster, full_quota: None
):
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
        (pod,) = [pod["metadata"]["name"] for pod in quiet.pods("int8")]
        # Budgets are reckoned anew when one of their pods changes, and the refusal of another is no such change.
        quiet.kubectl("annotate", "pod", pod, "-n", NAMESPACE, "looked-at=1")
        wait_for("the budget of two, of which one is away", lambda: _budget(quiet, "int8") == 0, seconds=30)
        assert "violate the pod's disruption budget" in _ask_to_evict(quiet, pod)
    finally:
        least(1)
    wait_for("everything is ready again", lambda: _status(stack)[0] == 0, seconds=120, every=2)
    quiet.kubectl("annotate", "pod", pod, "-n", NAMESPACE, "looked-at-")
    wait_for("the budget of one", lambda: _budget(quiet, "int8") == 1, seconds=30)
