"""What a build in the cluster becomes: one Job, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.kubernetes.metadata import Manifest, labels, manifest
from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.spec import BuilderSpec
from gpuserve_images.oci.reference import ADDRESSES_VARIABLE
from gpuserve_images.records import sha256_json
from gpuserve_images.sources.volume import MOUNTS

CONTAINER = "build"
KEY_ANNOTATION = "gpuserve.io/content-key"
REGISTRY_VOLUME = "registry"
"""Name of the volume with the registry's login."""

REFUSED = 3
"""Exit status of a build that would fail again: a wrong model is not tried twice."""

KEPT_SECONDS = 600
"""How long a Job that nobody removed stays after its end: long enough to read its log, and then nothing is left of it."""

_SCRATCH = "/tmp"  # noqa: S108 - a volume of the pod alone
_DOCKER_CONFIG = "/etc/gpuserve/docker"
_USER = 1000
_NAME_CHARACTERS = 19


@dataclass(frozen=True)
class BuildJob:
    """A build for the cluster.

    Attributes:
        model: Name of the model.
        build: Name of the build.
        key: Its content key.
        context: Reference by digest of what it reads, see `context.push`.
        image: The image that builds.
        registry: Name of the registry that it pushes to, without a path.
        placement: Where its pod may run.
        spec: The builder's options.
        gpus: GPUs that it needs: 1 for an engine that is compiled on the GPU it is for, else 0.
        claims: Volume claims that the model is on.
    """

    model: str
    build: str
    key: str
    context: str
    image: str
    registry: str
    placement: Placement
    spec: BuilderSpec
    gpus: int = 0
    claims: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the Job: the same for the same content in the same registry, so that two runs at once share one Job."""
        # A Job pushes to one place: the repository of what it reads is that of its registry and path prefix.
        repository = self.context.partition("@")[0]
        parts = (self.model[:_NAME_CHARACTERS], self.build[:_NAME_CHARACTERS], sha256_json([self.key, repository])[:10])
        return "-".join(("build", *(part.strip("-") for part in parts)))

    @property
    def namespace(self) -> str:
        """Namespace of the Job."""
        return self.spec.namespace or self.placement.namespace


def job_manifest(job: BuildJob) -> Manifest:
    """Return the Job of a build: a pod that Pod Security's `restricted` level takes, tried again where that may help."""
    common = labels(name=job.model, instance=job.name, component="builder", version=job.build)
    return manifest(
        "batch/v1",
        "Job",
        job.name,
        namespace=job.namespace,
        labels=common,
        annotations={KEY_ANNOTATION: job.key},
        spec={
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": job.spec.retries,
            "activeDeadlineSeconds": job.spec.deadline.whole_seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [REFUSED]},
                    },
                    # A drained node or a preempted pod is nobody's fault, so it uses up no retry.
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": common}, "spec": _pod(job)},
        },
    )


def _pod(job: BuildJob) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": job.spec.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # It has nothing to finish: stages are kept whole or not at all.
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job)],
        "volumes": _volumes(job),
    }
    if job.placement.node_selector:
        pod["nodeSelector"] = dict(job.placement.node_selector)
    if job.placement.tolerations:
        pod["tolerations"] = [dict(toleration) for toleration in job.placement.tolerations]
    if job.spec.registry_secret:
        pod["imagePullSecrets"] = [{"name": job.spec.registry_secret}]
    return pod


def _container(job: BuildJob) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.image,
        "command": ["python3", "-m", "gpuserve_images.builder", job.context],
        "env": [{"name": name, "value": value} for name, value in sorted(_environment(job).items())],
        "resources": _resources(job),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": _mounts(job),
    }
    if job.spec.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in job.spec.secrets]
    return container


def _environment(job: BuildJob) -> Mapping[str, str]:
    values = {"HOME": _SCRATCH, "XDG_CACHE_HOME": f"{_SCRATCH}/cache", "PYTHONUNBUFFERED": "1"}
    if job.spec.registry_address:
        values[ADDRESSES_VARIABLE] = f"{job.registry}={job.spec.registry_address}"
    if job.spec.registry_secret:
        values["DOCKER_CONFIG"] = _DOCKER_CONFIG
    return values


def _resources(job: BuildJob) -> dict[str, Any]:
    requests = {"cpu": str(job.spec.cpu), "memory": str(job.spec.memory)}
    limits = {"memory": str(job.spec.memory)}
    if job.gpus:
        # An extended resource is never overcommitted: its request is its limit.
        requests[job.placement.resource] = limits[job.placement.resource] = str(job.gpus)
    return {"requests": requests, "limits": limits}


def _volumes(job: BuildJob) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {"sizeLimit": str(job.spec.scratch)}}]
    if job.spec.registry_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": REGISTRY_VOLUME, "secret": {"secretName": job.spec.registry_secret, "items": items}})
    claims = [{"claimName": claim, "readOnly": True} for claim in job.claims]
    return volumes + [{"name": f"claim-{number}", "persistentVolumeClaim": claim} for number, claim in enumerate(claims)]


def _mounts(job: BuildJob) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "scratch", "mountPath": _SCRATCH}]
    if job.spec.registry_secret:
        mounts.append({"name": REGISTRY_VOLUME, "mountPath": _DOCKER_CONFIG, "readOnly": True})
    return mounts + [
        {"name": f"claim-{number}", "mountPath": str(MOUNTS / claim), "readOnly": True}
        for number, claim in enumerate(job.claims)
    ]
