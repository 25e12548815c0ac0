"""A Job from its start to its end, against a cluster that is played: what is reported, what is removed, what errors say."""

from dataclasses import replace
from typing import Any

import pytest
from e2e_played_cluster import JOB, PlayedCluster, pod

from gpuserve_images.builder import running
from gpuserve_images.builder.cluster import UnreachableError
from gpuserve_images.builder.errors import BuildRefusedError, JobError
from gpuserve_images.builder.spec import BuilderSpec


def run(cluster: PlayedCluster, job=JOB, **options: Any) -> list[str]:
    said: list[str] = []
    running.run(job, cluster, said.append, look=0.001, **options)
    return said


def test_a_build_that_ends_well_shows_its_log_and_leaves_no_job():
    cluster = PlayedCluster(
        [[], [pod("a", running={})], [pod("a", terminated={"exitCode": 0})]],
        end="Complete",
        logs={"a": ["optimise", "verify", "push"]},
    )
    said = run(cluster)
    assert said == [f"building in Job {JOB.namespace}/{JOB.name}", "optimise", "verify", "push"]
    assert cluster.deleted == [JOB.name]


def test_a_broken_connection_neither_repeats_nor_loses_lines():
    cluster = PlayedCluster([[pod("a", running={})]] * 3, end="Complete", logs={"a": ["1", "2", "3", "4"]}, breaks_after=2)
    assert run(cluster)[1:] == ["1", "2", "3", "4"]


def test_a_replaced_pod_is_announced():
    first = pod("a", terminated={"exitCode": 137})
    # The first one was deleted, so it is in no list any more.
    cluster = PlayedCluster([[first], [pod("b", running={})]], end="Complete", logs={"a": ["one"], "b": ["two"]})
    said = run(cluster)
    assert "attempt 2: pod b; finished stages are taken from the registry" in said
    assert said[-1] == "two"


def test_a_job_at_work_is_joined_and_not_started_again():
    cluster = PlayedCluster([[pod("a", running={})]], end="Complete", there="running")
    assert run(cluster)[0].startswith(f"joining Job {JOB.namespace}/{JOB.name}")
    assert cluster.created == []


@pytest.mark.parametrize("there", ["Failed", "Complete"])
def test_what_is_left_of_an_earlier_job_is_replaced(there):
    cluster = PlayedCluster([[pod("a", running={})]], end="Complete", there=there)
    assert run(cluster)[0].startswith("building")
    assert cluster.deleted[0] == JOB.name
    assert cluster.created == [JOB.name]


def test_a_job_that_somebody_removed_is_over():
    cluster = PlayedCluster([[pod("a", running={})]], end="gone")
    run(cluster)


def test_nobody_waits_any_more():
    cluster = PlayedCluster([[pod("a", running={})]] * 100, end="Complete")
    answers = iter([True, True, False])
    with pytest.raises(JobError, match="nobody waits for it any more, so it was removed"):
        run(cluster, wanted=lambda: next(answers))
    assert cluster.deleted == [JOB.name]


def test_an_interrupt_removes_the_job():
    def interrupted() -> bool:
        raise KeyboardInterrupt

    cluster = PlayedCluster([[pod("a", running={})]], end="Complete")
    with pytest.raises(KeyboardInterrupt):
        run(cluster, wanted=interrupted)
    assert cluster.deleted == [JOB.name]


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}
QUOTA = {
    "reason": "FailedCreate",
    "message": 'Error creating: pods "build-x" is forbidden: exceeded quota: a100, requested: requests.cpu=4,requests.nvidia.com/gpu=1, '
    "used: requests.cpu=500m,requests.nvidia.com/gpu=8, limited: requests.cpu=4,requests.nvidia.com/gpu=8",
}
NEVER = {
    "reason": "FailedCreate",
    "message": 'pods "build" is forbidden: exceeded quota: a100, requested: requests.memory=32Gi, used: requests.memory=0, limited: requests.memory=16Gi',
}
UNBOUND = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: pod has unbound immediate PersistentVolumeClaims."}
BUSY = {"reason": "FailedAttachVolume", "message": 'Multi-Attach error for volume "weights" Volume is already used by pod(s) x'}
SECURITY = {"reason": "FailedCreate", "message": 'violates PodSecurity "restricted:latest"'}


def claim_event(reason: str, message: str) -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"kind": "PersistentVolumeClaim", "name": "weights"}}


IMPATIENT = BuilderSpec.parse({"kind": "job", "start_within": "50ms"})


@pytest.mark.parametrize(
    ("looks", "events", "said", "fix"),
    [
        (
            [[pod("a", conditions=[UNSCHEDULABLE])]],
            [],
            "3 Insufficient nvidia.com/gpu",
            "Make room on the nodes of pool 'a100'",
        ),
        (
            [[]],
            [QUOTA],
            "ResourceQuota gpuserve-a100/a100 refuses its pod: 500m of 4 requests.cpu are used, and the build requests 4; 8 of 8",
            "Raise `quota.cpu` of pool 'a100', lower `builder.cpu`",
        ),
        (
            [[]],
            [{"reason": "FailedCreate", "message": "status unknown for quota: a100"}],
            "the cluster makes no pod: status unknown for quota",
            "Correct what it names",
        ),
        (
            [[pod("a", conditions=[UNBOUND])]],
            [claim_event("ProvisioningFailed", "rpc error: no capacity")],
            "unbound immediate PersistentVolumeClaims; claim weights: rpc error: no capacity",
            "Give claim weights in namespace gpuserve-a100 a volume",
        ),
        ([[pod("a", waiting={"reason": "ContainerCreating"})]], [BUSY], "Multi-Attach error", "Correct the volume behind it"),
        ([[]], [SECURITY], "violates PodSecurity", "Correct what it names in the namespace"),
    ],
)
def test_what_keeps_it_from_starting_is_said_at_once_and_then_is_the_error(looks, events, said, fix):
    cluster = PlayedCluster(looks * 10_000, end="Complete", events=events)
    reported: list[str] = []
    job = replace(JOB, spec=IMPATIENT, claims=("weights",))
    with pytest.raises(JobError) as caught:
        running.run(job, cluster, reported.append, look=0.005)
    assert "did not start within 50ms: " in str(caught.value)
    assert said in str(caught.value)
    assert fix in str(caught.value)
    assert sum(said in line for line in reported) == 1
    assert cluster.deleted == [JOB.name]


def test_a_quota_that_never_holds_the_pod_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "_SETTLING_SECONDS", 0.05)
    cluster = PlayedCluster([[]] * 10_000, end="Complete", events=[QUOTA, NEVER])
    with pytest.raises(JobError) as caught:
        running.run(JOB, cluster, lambda _: None, look=0.005)
    assert "0 of 16Gi requests.memory are used, and the build requests 32Gi, more than there is in all" in str(caught.value)
    assert "Fix: Raise `quota.memory` of pool 'a100', lower `builder.memory`" in str(caught.value)
    assert cluster.deleted == [JOB.name]


def mount(volume: str, said: str) -> dict[str, str]:
    return {"reason": "FailedMount", "message": f'MountVolume.SetUp failed for volume "{volume}" : {said}'}


GONE = {**UNBOUND, "message": '0/1 nodes are available: persistentvolumeclaim "weights" not found. not found'}
CREATING = pod("a", waiting={"reason": "ContainerCreating"})


@pytest.mark.parametrize(
    ("look", "event", "said", "fix"),
    [
        (
            pod("a", conditions=[UNBOUND]),
            claim_event("FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
            "claim weights: no persistent volumes available for this claim and no storage class is set",
            "Give claim weights in namespace gpuserve-a100 a volume",
        ),
        (pod("a", conditions=[GONE]), {}, 'persistentvolumeclaim "weights" not found', "Give claim weights"),
        (
            CREATING,
            mount("pv", "hostPath type check failed: /x is not a directory"),
            "/x is not a directory",
            "Correct the volume",
        ),
        (
            CREATING,
            mount("registry", "references non-existent secret key: .dockerconfigjson"),
            "references non-existent secret key: .dockerconfigjson",
            "Make Secret login (`builder.registry_secret`) one of type kubernetes.io/dockerconfigjson",
        ),
        (
            CREATING,
            mount("registry", 'secret "login" not found'),
            'secret "login" not found',
            "Make Secret login (`builder.registry_secret`) one of type",
        ),
    ],
)
def test_a_volume_that_nobody_will_mount_is_not_waited_for(look, event, said, fix, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "_SETTLING_SECONDS", 0.05)
    cluster = PlayedCluster([[look]] * 10_000, end="Complete", events=[event])
    job = replace(JOB, spec=BuilderSpec.parse({"kind": "job", "registry_secret": "login"}), claims=("weights",))
    with pytest.raises(JobError) as caught:
        running.run(job, cluster, lambda _: None, look=0.005)
    assert "did not start within" not in str(caught.value)
    assert said in str(caught.value)
    assert f"Fix: {fix}" in str(caught.value)
    assert cluster.deleted == [JOB.name]


def test_a_login_that_is_wrong_is_named():
    refused = {"reason": "Failed", "message": 'Failed to pull image "x": 401 Unauthorized'}
    cluster = PlayedCluster([[pod("a", waiting=PULL)]] * 100, end="Complete", events=[refused])
    job = replace(JOB, spec=BuilderSpec.parse({"kind": "job", "registry_secret": "login"}))
    with pytest.raises(JobError, match=r"401 Unauthorized.*correct the login in Secret login \(`builder\.registry_secret`\)"):
        run(cluster, job)


def test_waiting_that_passes_is_no_error():
    looks = [[pod("a", conditions=[UNSCHEDULABLE])], [pod("a", running={})], [pod("a", terminated={"exitCode": 0})]]
    assert "waiting: no node takes its pod: 0/3 nodes" in "".join(run(PlayedCluster(looks, end="Complete")))


PULL = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
PULLED = {"reason": "Failed", "message": 'Failed to pull image "x": not found'}


@pytest.mark.parametrize(
    ("state", "events", "said", "fix"),
    [
        ({"waiting": PULL}, [PULLED], 'Failed to pull image "x": not found', "Correct `builder.image`"),
        ({"waiting": PULL}, [], "Back-off pulling image", "`builder.registry_secret`"),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "bucket" not found'}},
            [],
            'secret "bucket"',
            "`builder.secrets`",
        ),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, [], "needs more memory than the 4Gi", "for example to 8Gi"),
    ],
)
def test_what_no_patience_helps_against_is_an_error_at_once(state, events, said, fix):
    cluster = PlayedCluster([[pod("a", **state)]] * 100, end="Complete", events=events)
    with pytest.raises(JobError) as caught:
        run(cluster)
    assert said in str(caught.value)
    assert fix in str(caught.value)
    assert cluster.deleted == [JOB.name]


def failed(reason: str, message: str = "") -> dict[str, str]:
    return {"type": "Failed", "status": "True", "reason": reason, "message": message}


def test_a_wrong_model_is_the_builds_own_sentence():
    sentence = "verify: top1_agreement is 0.9, below 0.98. Fix: use more samples."
    cluster = PlayedCluster([[pod("a", terminated={"exitCode": 3, "message": sentence})]], end=failed("PodFailurePolicy"))
    with pytest.raises(BuildRefusedError) as caught:
        run(cluster)
    assert str(caught.value) == sentence
    assert cluster.deleted == []  # kept for a look at its log, until its time is up


def test_the_deadline():
    cluster = PlayedCluster([[pod("a", running={})]], end=failed("DeadlineExceeded"), logs={"a": ["calibrating"]})
    with pytest.raises(JobError) as caught:
        run(cluster)
    assert "(1h): was stopped at its deadline. Fix: Raise `builder.deadline`" in str(caught.value)
    assert "    calibrating" in str(caught.value)


def test_the_retries_are_used_up():
    tries = [pod(name, terminated={"exitCode": 1, "message": "registry: HTTP 503"}) for name in "abc"]
    cluster = PlayedCluster([tries], end=failed("BackoffLimitExceeded"))
    with pytest.raises(JobError, match="failed 3 times: registry: HTTP 503"):
        run(cluster)


def test_a_killed_process_says_how_it_ended_and_shows_its_last_lines():
    cluster = PlayedCluster(
        [[pod("a", terminated={"exitCode": 139, "reason": "Error"})]], end=failed("BackoffLimitExceeded"), logs={"a": ["x"]}
    )
    with pytest.raises(JobError, match="its process ended with status 139 \\(Error\\)") as caught:
        run(cluster)
    assert str(caught.value).endswith("\n    x")


def test_an_evicted_pod():
    evicted = {**pod("a"), "status": {"reason": "Evicted", "message": "ephemeral local storage usage exceeds 20Gi"}}
    cluster = PlayedCluster([[evicted]], end=failed("BackoffLimitExceeded"))
    with pytest.raises(JobError, match="Evicted: ephemeral local storage usage exceeds 20Gi"):
        run(cluster)


def test_an_api_server_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    cluster = PlayedCluster([[pod("a", running={})]] * 3, end="Complete", unreachable=2)
    assert any("does not answer" in line for line in run(cluster))
    monkeypatch.setattr(running, "_PATIENCE_SECONDS", 0.01)
    with pytest.raises(UnreachableError):
        run(PlayedCluster([[pod("a", running={})]], end="Complete", unreachable=10_000))
