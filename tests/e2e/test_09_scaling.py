"""Load makes replicas, quiet removes them."""

import pytest
from e2e_cluster import NAMESPACE, Cluster, wait_for
from e2e_stack import Stack
from e2e_traffic import Load

pytestmark = pytest.mark.e2e

UP_SECONDS = 150
DOWN_SECONDS = 180


def test_a_queue_makes_a_second_replica_and_quiet_removes_it(stack: Stack, quiet: Cluster):
    with Load(stack.url, threads=16, rows=16) as load:
        wait_for("a second ready replica", lambda: quiet.replicas("fp32") >= 2, seconds=UP_SECONDS, every=1)
    assert load.sent > 20
    assert set(load.outcomes) == {"200"}, load.outcomes
    wait_for("one replica each", quiet.settled, seconds=DOWN_SECONDS, every=1)
    hpa = quiet.get("hpa", "filetype-fp32", "-n", NAMESPACE)
    conditions = {item["type"]: item["status"] for item in hpa["status"]["conditions"]}
    assert conditions["ScalingActive"] == "True"
    assert hpa["status"]["desiredReplicas"] == 1
