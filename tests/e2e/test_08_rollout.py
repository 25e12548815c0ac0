"""A rollout under load loses no request; one in place does with the only GPU of a pool."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_cluster import NAMESPACE, ROOT, Cluster, run, wait_for
from e2e_stack import Stack, Workshop
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


SINGLE = "single"
PLACE = f"gpuserve-{SINGLE}"


@pytest.fixture
def single(stack: Stack, workshop: Workshop) -> Iterator[Cluster]:
    """A server that holds the only GPU of its pool, as `gpuserve render` writes it."""
    pool = {"name": SINGLE, "accelerator": "simulated", "gpus": 1, "quota": {"gpus": 1}}
    workshop.write_stack(SINGLE, pools=[pool], service={"rollout": "in-place"})
    command = [ROOT / ".venv/bin/gpuserve", "render", "-s", SINGLE, "--format", "json"]
    rendered = run(command, workshop.variables, cwd=workshop.folder)
    assert rendered.returncode == 0, rendered.stderr
    kinds = ("Namespace", "ResourceQuota", "ServiceAccount", "Deployment")
    stack.cluster.apply(*(item for item in json.loads(rendered.stdout)["items"] if item["kind"] in kinds and _own(item)))
    yield stack.cluster
    # Nobody asks it any more, so it need not drain.
    stack.cluster.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", "-n", PLACE)
    stack.cluster.kubectl("delete", "namespace", PLACE, "--timeout=120s")


def test_a_pool_without_a_spare_gpu_replaces_its_only_replica(single: Cluster):
    server = (f"deployment/{SINGLE}-fp32", "-n", PLACE)
    single.kubectl("rollout", "status", *server, "--timeout=120s")
    (before,) = single.get("pods", "-n", PLACE)
    single.kubectl("rollout", "restart", *server)
    single.kubectl("rollout", "status", *server, "--timeout=180s")
    (after,) = single.get("pods", "-n", PLACE)
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    quota = single.get("resourcequota", SINGLE, "-n", PLACE)["status"]
    assert quota["used"] == quota["hard"] == {"requests.nvidia.com/gpu": "1"}


def _own(item: dict[str, Any]) -> bool:
    return PLACE in {item["metadata"]["name"], item["metadata"].get("namespace")}
