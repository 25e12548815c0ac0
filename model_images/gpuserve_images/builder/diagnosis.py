"""What a Job, its pods and their events say about a build: what it waits for, why it cannot go on, why it failed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpuserve_images.builder.errors import BuildRefusedError, JobError
from gpuserve_images.builder.manifests import CONTAINER, REFUSED, REGISTRY_VOLUME, BuildJob
from gpuserve_images.builder.quota import Excess, excesses
from gpuserve_images.errors import ImageError

Object = dict[str, Any]

_IMAGE_TROUBLE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_SETUP_TROUBLE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_VOLUME_TROUBLE = frozenset({"FailedMount", "FailedAttachVolume"})
_CLAIM_TROUBLE = frozenset({"FailedBinding", "ProvisioningFailed"})

_NEVER_MOUNTED = re.compile(r"references non-existent|hostPath type check failed|(secret|configmap) \"[^\"]+\" not found")
_NEVER_SCHEDULED = re.compile(r"persistentvolumeclaim \"[^\"]+\" (not found|bound to non-existent|is being deleted)")
"""What somebody must put right, in the words of Kubernetes 1.36: the kubelet's pkg/volume/{secret,configmap,hostpath}, and the scheduler's
volume_binding.go. Everything else about volumes may pass: a disk is still made, or still attached elsewhere."""

_LIMITS = {
    "requests.cpu": ("`quota.cpu`", "`builder.cpu`"),
    "requests.memory": ("`quota.memory`", "`builder.memory`"),
    "requests.nvidia.com/gpu": ("`quota.gpus`", "`builder.gpus`"),
}
"""What a quota limits -> where a pool says it, and where a builder does."""


@dataclass(frozen=True)
class Wait:
    """What a build waits for.

    Attributes:
        reason: As the cluster says it.
        fix: What to do when it does not pass.
        passes: Whether it may pass by itself.
    """

    reason: str
    fix: str
    passes: bool = True


def finished(job: Object) -> str | None:
    """Return `Complete` or `Failed` when a Job is at its end."""
    for condition in _conditions(job):
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
            return str(condition["type"])
    return None


def started(pod: Object) -> bool:
    """Tell whether a pod's container runs or ran."""
    state = _state(pod)
    return "running" in state or "terminated" in state


def waiting_for(job: BuildJob, pods: Sequence[Object], events: Sequence[Object]) -> Wait | None:
    """Return what keeps a build from starting; None when nothing does.

    Args:
        job: The build.
        pods: Its pods.
        events: Events about the Job, its newest pod and its claims.
    """
    if not pods:
        refused = [event for event in events if event.get("reason") == "FailedCreate"]
        if not refused:
            return None
        said = str(refused[-1].get("message", ""))
        if short := excesses(said):
            return _over_quota(job, short)
        fix = "Correct what it names in the namespace, or name another `builder.namespace`."
        return Wait(f"the cluster makes no pod: {said.rstrip('.')}", fix)
    for condition in _conditions(pods[-1]):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            said = str(condition.get("message", condition.get("reason", "")))
            if "persistentvolumeclaim" in said.lower():
                return _without_volume(job, said, events)
            fix = f"Make room on the nodes of pool {job.placement.pool!r}, lower `builder.cpu` or `builder.memory`, or choose another `builder.pool`."
            return Wait(f"no node takes its pod: {said.rstrip('.')}", fix)
    troubles = [event for event in events if event.get("reason") in _VOLUME_TROUBLE]
    return _not_mounted(job, str(troubles[-1].get("message", ""))) if troubles and not started(pods[-1]) else None


def _without_volume(job: BuildJob, said: str, events: Sequence[Object]) -> Wait:
    troubles = [event for event in events if event.get("reason") in _CLAIM_TROUBLE]
    reason, passes = f"no node takes its pod: {said.rstrip('.')}", _NEVER_SCHEDULED.search(said) is None
    if troubles:
        last = troubles[-1]
        reason += f"; claim {last['involvedObject']['name']}: {str(last.get('message', '')).rstrip('.')}"
        # Whoever makes volumes tries again; where nobody makes any, waiting is for nothing.
        passes = passes and last["reason"] != "FailedBinding"
    claims = ", ".join(job.claims) or "of the model"
    fix = f"Give claim {claims} in namespace {job.namespace} a volume (kubectl describe pvc -n {job.namespace}), or name another `builder.namespace`."
    return Wait(reason, fix, passes=passes)


def _not_mounted(job: BuildJob, said: str) -> Wait:
    fix = f"Correct the volume behind it, or name another `builder.namespace`; see kubectl describe pod -n {job.namespace}."
    # The volume's name is the manifest's.
    if f'"{REGISTRY_VOLUME}"' in said:
        command = f"kubectl create secret docker-registry {job.spec.registry_secret} -n {job.namespace} --docker-server=... --docker-username=..."
        fix = f"Make Secret {job.spec.registry_secret} (`builder.registry_secret`) one of type kubernetes.io/dockerconfigjson: {command}"
    return Wait(f"a volume of its pod is not mounted: {said.rstrip('.')}", fix, passes=_NEVER_MOUNTED.search(said) is None)


def _over_quota(job: BuildJob, short: Sequence[Excess]) -> Wait:
    numbers = "; ".join(map(str, short))
    theirs, ours = _LIMITS.get(short[0].resource, ("its limit", "what the build requests"))
    fix = f"Raise {theirs} of pool {job.placement.pool!r}, lower {ours}, or name another `builder.namespace`."
    if job.spec.namespace not in {None, job.placement.namespace}:
        fix = f"Raise that quota, lower {ours}, or name another `builder.namespace`."
    passes = all(one.passes for one in short)
    hint = "" if passes else ", more than there is in all"
    return Wait(f"ResourceQuota {job.namespace}/{short[0].quota} refuses its pod: {numbers}{hint}", fix, passes=passes)


def hopeless(job: BuildJob, pod: Object, events: Sequence[Object]) -> JobError | None:
    """Return why a pod will never do its work, however long it is left; None when it may.

    Args:
        job: The build.
        pod: Its newest pod.
        events: Events about the pod.
    """
    state = _state(pod)
    waiting = state.get("waiting", {})
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    where = f"Job {job.namespace}/{job.name}"
    if reason in _IMAGE_TROUBLE:
        pulls = [
            str(event.get("message", ""))
            for event in events
            if event.get("reason") == "Failed" and "pull" in str(event.get("message"))
        ]
        login = "add `builder.registry_secret`"
        if job.spec.registry_secret:
            login = f"correct the login in Secret {job.spec.registry_secret} (`builder.registry_secret`)"
        fix = f"Correct `builder.image`, let the nodes reach its registry, or {login}."
        return JobError(where, f"its image cannot be pulled: {pulls[0] if pulls else message or reason}", fix, value=job.image)
    if reason in _SETUP_TROUBLE:
        fix = "Create what it names in that namespace, or correct `builder.secrets`, `registry_secret` or `image`."
        return JobError(where, f"its container cannot start: {message or reason}", fix)
    if state.get("terminated", {}).get("reason") == "OOMKilled":
        fix = f"Raise `builder.memory`, for example to {_doubled(job)}."
        return JobError(where, f"the build needs more memory than the {job.spec.memory} that its pod may use", fix)
    return None


def failure(job: BuildJob, status: Object, pods: Sequence[Object], log: Sequence[str]) -> ImageError:
    """Return why a Job failed.

    Args:
        job: The build.
        status: The Job as it is in the cluster.
        pods: Its pods.
        log: The last lines of the last pod.
    """
    if pods and (error := hopeless(job, pods[-1], [])):
        return error
    where = f"Job {job.namespace}/{job.name}"
    condition = next((item for item in _conditions(status) if item["type"] == "Failed"), {})
    last = _state(pods[-1]).get("terminated", {}) if pods else {}
    said = str(last.get("message", "")).strip()
    if condition.get("reason") == "DeadlineExceeded":
        reason = "was stopped at its deadline"
        fix = "Raise `builder.deadline`; stages that were finished are not run again."
        return JobError(where, reason, fix, value=str(job.spec.deadline), log=log)
    if last.get("exitCode") == REFUSED and said:
        return BuildRefusedError(said)
    tries = len(pods)
    reason = f"failed {tries} {'time' if tries == 1 else 'times'}: {said or _ended(pods, last) or condition.get('message', 'nobody knows why')}"
    return JobError(
        where, reason, "Put right what its last lines say, then run again; finished stages are kept.", log=[] if said else log
    )


def _ended(pods: Sequence[Object], last: Object) -> str:
    status = pods[-1].get("status", {}) if pods else {}
    if status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}".strip(": ")
    if "exitCode" in last:
        return f"its process ended with status {last['exitCode']}" + (f" ({last['reason']})" if last.get("reason") else "")
    return ""


def _state(pod: Object) -> Object:
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if status["name"] == CONTAINER:
            return status.get("state") or {}
    return {}


def _conditions(thing: Object) -> list[Object]:
    return list(thing.get("status", {}).get("conditions") or [])


def _doubled(job: BuildJob) -> str:
    return f"{max(1, round(2 * job.spec.memory.amount / 2**30))}Gi"
