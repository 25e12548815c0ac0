"""A rollout under load loses no request."""

import pytest
from e2e_cluster import NAMESPACE, Cluster, wait_for
from e2e_stack import Stack
from e2e_traffic import Load

pytestmark = pytest.mark.e2e

VERSIONS = ("fp32", "int8")


def _names(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["name"] for version in VERSIONS for pod in cluster.pods(version)}


def test_no_request_is_lost_while_every_pod_is_replaced(stack: Stack, quiet: Cluster):
    before = _names(quiet)
    with Load(stack.url, threads=4, pause=0.02) as load:
        wait_for("the load", lambda: load.sent > 50, seconds=20)
        # As `kubectl rollout restart`, in words that the next `pulumi up` owns no part of.
        for version in VERSIONS:
            quiet.kubectl("rollout", "restart", f"deployment/filetype-{version}", "-n", NAMESPACE)
        for version in VERSIONS:
            quiet.kubectl("rollout", "status", f"deployment/filetype-{version}", "-n", NAMESPACE, "--timeout=240s")
        wait_for("the old pods to be gone", lambda: not before & _all_names(quiet), seconds=90, every=1)
        sent = load.sent
        wait_for("requests after the rollout", lambda: load.sent > sent + 50, seconds=20)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert load.sent > 200
    assert not before & _names(quiet)


def _all_names(cluster: Cluster) -> set[str]:
    """Return the servers' pods, those on their way out too: requests may still go to them."""
    return {pod["metadata"]["name"] for pod in cluster.get("pods", "-n", NAMESPACE, "-l", "gpuserve.io/service=filetype")}
