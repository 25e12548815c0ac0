"""What a cluster's answers mean: pure functions over objects as the API server returns them."""

from typing import Any

import pytest

from gpuserve.cli import readiness

META = {"namespace": "gpuserve-local", "generation": 1}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def deployment(ready: int, wanted: int = 1, **status: Any) -> dict[str, Any]:
    state = {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": wanted, "unavailableReplicas": wanted - ready}
    metadata = {**META, "name": "filetype-fp32", "uid": "d"}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": wanted}, "status": {**state, **status}}


def replica_set(*conditions: dict[str, str]) -> dict[str, Any]:
    metadata = {**META, "name": "filetype-fp32-abc", "uid": "r", "ownerReferences": [{"uid": "d"}]}
    return {"kind": "ReplicaSet", "metadata": metadata, "status": {"conditions": list(conditions)}}


def pod(*conditions: dict[str, str], containers: tuple[dict[str, Any], ...] = (), owner: str = "r") -> dict[str, Any]:
    metadata = {**META, "name": "filetype-fp32-abc-1", "uid": "p", "ownerReferences": [{"uid": owner}]}
    status = {"phase": "Pending", "conditions": list(conditions), "containerStatuses": list(containers)}
    return {"kind": "Pod", "metadata": metadata, "status": status}


def test_a_complete_deployment_is_ready() -> None:
    part = readiness.deployment(deployment(2, 2), [replica_set()], [pod()])
    assert part.ready
    assert part.object == "Deployment gpuserve-local/filetype-fp32"
    assert part.details == {"replicas": 2, "ready_replicas": 2}


@pytest.mark.parametrize(
    "status",
    [{"observedGeneration": 0}, {"updatedReplicas": 0}, {"unavailableReplicas": 1}],
    ids=["not observed", "old pods", "unavailable"],
)
def test_a_rollout_under_way_is_not_ready(status: dict[str, int]) -> None:
    assert not readiness.deployment(deployment(1, **status), [], []).ready


EXCEEDED = (
    'pods "filetype-fp32-abc-2" is forbidden: exceeded quota: local, requested: requests.nvidia.com/gpu=1, '
    "used: requests.nvidia.com/gpu=6, limited: requests.nvidia.com/gpu=6"
)
SCHEDULED = condition("PodScheduled", "True")
NOT_READY = condition("Ready", "False", "ContainersNotReady", "containers with unready status: [server]")
PULLING = {"name": "server", "image": "r/x:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
CRASHED = {
    "name": "server",
    "ready": False,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
}


@pytest.mark.parametrize(
    ("sets", "pods", "blocker", "words"),
    [
        (
            [replica_set(condition("ReplicaFailure", "True", "FailedCreate", EXCEEDED))],
            [],
            "ResourceQuota gpuserve-local/local",
            ["exceeded quota", "used"],
        ),
        (
            [replica_set(condition("ReplicaFailure", "True", "FailedCreate", "no account"))],
            [],
            "ReplicaSet gpuserve-local/filetype-fp32-abc",
            ["no account"],
        ),
        (
            [replica_set()],
            [
                pod(
                    condition(
                        "PodScheduled", "False", "Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
                    )
                )
            ],
            "Pod gpuserve-local/filetype-fp32-abc-1",
            ["Unschedulable", "Insufficient nvidia.com/gpu"],
        ),
        (
            [replica_set()],
            [pod(SCHEDULED, NOT_READY, containers=(PULLING,))],
            "Pod gpuserve-local/filetype-fp32-abc-1",
            ["ImagePullBackOff", "r/x:1", "not found"],
        ),
        (
            [replica_set()],
            [pod(SCHEDULED, NOT_READY, containers=(CRASHED,))],
            "Pod gpuserve-local/filetype-fp32-abc-1",
            ["CrashLoopBackOff", "OOMKilled", "137"],
        ),
        ([replica_set()], [pod(SCHEDULED, NOT_READY)], "Pod gpuserve-local/filetype-fp32-abc-1", ["unready status: [server]"]),
        (
            [replica_set()],
            [pod(SCHEDULED, NOT_READY, owner="else")],
            "Deployment gpuserve-local/filetype-fp32",
            ["0 of 1 replicas"],
        ),
    ],
    ids=["quota", "refused", "unschedulable", "image", "crash", "starting", "another's pod"],
)
def test_the_object_that_blocks_a_deployment_is_found(sets: list, pods: list, blocker: str, words: list[str]) -> None:
    part = readiness.deployment(deployment(0), sets, pods)
    assert (part.ready, part.object) == (False, blocker)
    for word in words:
        assert word in part.reason


def test_endpoints() -> None:
    ready = {"endpoints": [{"conditions": {"ready": True}}, {"conditions": {"ready": False}}]}
    assert readiness.endpoints("x", "n", [ready]).details == {"endpoints": 1}
    assert not readiness.endpoints("x", "n", [{"endpoints": None}]).ready
    assert readiness.endpoints("x", "n", []).object == "Service n/x"


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ([condition("Accepted", "True"), condition("Programmed", "True")], []),
        ([], ["not Accepted", "controller"]),
        ([condition("Accepted", "Unknown", "Pending", "Waiting for controller")], ["not Accepted", "Waiting for controller"]),
        (
            [condition("Accepted", "True"), condition("Programmed", "False", "AddressNotAssigned")],
            ["not Programmed", "AddressNotAssigned"],
        ),
    ],
)
def test_gateway(conditions: list, words: list[str]) -> None:
    part = readiness.gateway({"kind": "Gateway", "metadata": {**META, "name": "x"}, "status": {"conditions": conditions}})
    assert part.ready == (not words)
    for word in words:
        assert word in part.reason


@pytest.mark.parametrize(
    ("parents", "words"),
    [
        ([{"conditions": [condition("Accepted", "True"), condition("ResolvedRefs", "True")]}], []),
        ([], ["no gateway has looked at it"]),
        (
            [{"conditions": [condition("Accepted", "True"), condition("ResolvedRefs", "False", "BackendNotFound", "no x")]}],
            ["not ResolvedRefs", "no x"],
        ),
    ],
)
def test_route(parents: list, words: list[str]) -> None:
    part = readiness.route({"kind": "HTTPRoute", "metadata": {**META, "name": "x"}, "status": {"parents": parents}})
    assert part.ready == (not words)
    for word in words:
        assert word in part.reason


def test_autoscaler_explains_an_unknown_metric() -> None:
    hpa: dict[str, Any] = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {**META, "name": "x"},
        "spec": {"minReplicas": 1, "maxReplicas": 3},
    }
    able = condition("AbleToScale", "True")
    unknown = condition("ScalingActive", "False", "FailedGetPodsMetric", "unable to get metric gpuserve_queue_seconds")
    part = readiness.autoscaler({**hpa, "status": {"conditions": [able, unknown]}})
    assert not part.ready
    assert "FailedGetPodsMetric" in part.reason
    metrics = [{"type": "Pods", "pods": {"current": {"averageValue": "3m"}}}]
    status = {"conditions": [able, condition("ScalingActive", "True")], "currentReplicas": 2, "currentMetrics": metrics}
    part = readiness.autoscaler({**hpa, "status": status})
    assert part.ready
    assert part.details["replicas"] == 2
    assert part.details["metrics"] == ["3m"]
