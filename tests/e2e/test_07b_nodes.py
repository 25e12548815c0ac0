"""Which nodes a pool's pods go to: the real scheduler, with a label that nodes of a cloud have, and the pools' own taint."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from e2e_cluster import NAMESPACE, Cluster, holder, wait_for

from gpuserve.kubernetes.values import Placement
from gpuserve.node_pool.manifests import placement
from gpuserve.node_pool.spec import NodePoolSpec

pytestmark = pytest.mark.e2e

LABELS = {"cloud.google.com/gke-accelerator": "nvidia-l4"}


@pytest.fixture
def node(quiet: Cluster) -> Iterator[str]:
    """The node; it loses again what a test gave it, and the pods that waited for it go."""
    (name,) = [node["metadata"]["name"] for node in quiet.get("nodes")]
    yield name
    quiet.kubectl("label", "node", name, *(f"{key}-" for key in LABELS))
    quiet.kubectl("delete", "pods", "-n", NAMESPACE, "-l", "selects", "--wait=true")


def _pod(cluster: Cluster, name: str, place: Placement) -> dict[str, Any]:
    pod = holder(cluster, name, 1)
    pod["metadata"]["labels"] = {"selects": name}
    pod["spec"] |= {"nodeSelector": dict(place.node_selector), "tolerations": [dict(one) for one in place.tolerations]}
    return pod


def _scheduled(cluster: Cluster, name: str) -> dict[str, str]:
    """Return what the scheduler says of a pod; empty while it has not looked at it."""
    conditions = cluster.get("pod", name, "-n", NAMESPACE)["status"].get("conditions", [])
    return next((one for one in conditions if one["type"] == "PodScheduled"), {})


def _refused(cluster: Cluster, name: str, reason: str) -> bool:
    said = _scheduled(cluster, name)
    return said.get("status") == "False" and reason in said["message"]


def test_a_pod_goes_where_the_pools_labels_and_tolerations_let_it(quiet: Cluster, node: str):
    pool = NodePoolSpec.parse({"name": "cloud", "accelerator": "L4", "gpus": 1, "quota": {"gpus": 1}, "node_selector": LABELS})
    place = placement(pool)
    quiet.apply(_pod(quiet, "tolerant", place), _pod(quiet, "intolerant", replace(place, tolerations=())))
    wait_for("no node for the one", partial(_refused, quiet, "tolerant", "node(s) didn't match"), seconds=30)
    quiet.kubectl("label", "node", node, *(f"{key}={value}" for key, value in LABELS.items()))
    wait_for("a node for the one", lambda: _scheduled(quiet, "tolerant")["status"] == "True", seconds=60)
    wait_for("the taint for the other", partial(_refused, quiet, "intolerant", "untolerated taint"), seconds=60)
