"""The cluster as a build needs it: a Job, its pods, their events and their logs."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, cast

import kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.kubeconfig import NO_YAML, configured, no_kubeconfig
from gpuserve.kubernetes.metadata import Manifest
from gpuserve_images.builder.errors import JobError

Object = dict[str, Any]
_SECONDS = 30.0
_NOT_FOUND, _FORBIDDEN, _CONFLICT = 404, 403, 409
_TOO_MANY, _SERVER_ERROR = 429, 500
"""From the second on, and with the first, the API server says nothing about the request: it restarts, elects a leader or is busy."""

RIGHTS = (
    ("create", "batch", "jobs"),
    ("get", "batch", "jobs"),
    ("delete", "batch", "jobs"),
    ("list", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "", "events"),
)
"""What a build does in its namespace: verb, API group and resource."""


Kind = Literal["Namespace", "Secret", "PersistentVolumeClaim", "ServiceAccount"]
"""What a build can take from its namespace, and that itself."""

_METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
"""Asks for an object's metadata alone (kubernetes.io/docs/reference/using-api/api-concepts): what is in a Secret stays where it is."""


class AbsentError(Exception):
    """What was asked for is not there."""


class BuildCluster(Protocol):
    """What a build needs of a cluster; each call may raise JobError."""

    def require_rights(self, namespace: str) -> None:
        """Check that a build may do there what it does."""
        ...

    def lacks(self, kind: Kind, namespace: str, name: str = "") -> bool:
        """Tell whether the cluster says that there is no such object; where it may not be asked, nothing is said to be missing."""
        ...

    def create(self, job: Manifest) -> bool:
        """Create a Job; False when one of its name is there."""
        ...

    def job(self, namespace: str, name: str) -> Object | None:
        """Return a Job, or None."""
        ...

    def delete(self, namespace: str, name: str) -> None:
        """Delete a Job with its pods, if it is there."""
        ...

    def pods(self, namespace: str, job: str) -> list[Object]:
        """Return a Job's pods, the oldest first."""
        ...

    def events(self, namespace: str, name: str) -> list[Object]:
        """Return the events about an object of that name, the oldest first."""
        ...

    def log(self, namespace: str, pod: str, container: str) -> Iterator[str]:
        """Yield a container's log from its beginning, each line with its time in front, until it ends or the connection breaks.

        Raises:
            AbsentError: When there is no log (yet, or any more).
        """
        ...


class KubernetesCluster:
    """A cluster through its API server, with the Kubernetes client."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        """Ask nothing yet."""
        self._client = client
        self._batch = kubernetes.client.BatchV1Api(client)
        self._core = kubernetes.client.CoreV1Api(client)
        self._authorisation = kubernetes.client.AuthorizationV1Api(client)
        metadata = kubernetes.client.ApiClient(client.configuration)
        metadata.set_default_header("Accept", _METADATA)
        self._metadata = kubernetes.client.CoreV1Api(metadata)

    def require_rights(self, namespace: str) -> None:
        """Ask the API server whether a build may do there what it does; the namespace need not exist yet."""
        for verb, group, resource in RIGHTS:
            kind, _, part = resource.partition("/")
            attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": kind, "subresource": part}
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
            question = {**review, "spec": {"resourceAttributes": attributes}}
            try:
                answer = self._call(self._authorisation.create_self_subject_access_review, question)
            except ApiException as error:
                raise _refusal(error, namespace) from error
            if not answer["status"]["allowed"]:
                raise _forbidden(namespace, f"may not {verb} {resource}")

    def lacks(self, kind: Kind, namespace: str, name: str = "") -> bool:
        """Ask for an object's metadata."""
        reads: dict[Kind, Any] = {
            "Secret": self._metadata.read_namespaced_secret,
            "PersistentVolumeClaim": self._metadata.read_namespaced_persistent_volume_claim,
            "ServiceAccount": self._metadata.read_namespaced_service_account,
        }
        try:
            if kind == "Namespace":
                self._call(self._metadata.read_namespace, namespace)
            else:
                self._call(reads[kind], name, namespace)
        except ApiException as error:
            if error.status == _FORBIDDEN:
                return False
            if error.status == _NOT_FOUND:
                return True
            raise _refusal(error, namespace) from error
        return False

    def create(self, job: Manifest) -> bool:
        """Create a Job."""
        namespace = job["metadata"]["namespace"]
        try:
            self._call(self._batch.create_namespaced_job, namespace, job)
        except ApiException as error:
            if error.status == _CONFLICT:
                return False
            raise _refusal(error, namespace) from error
        return True

    def job(self, namespace: str, name: str) -> Object | None:
        """Read a Job."""
        try:
            return self._call(self._batch.read_namespaced_job, name, namespace)
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise _refusal(error, namespace) from error

    def delete(self, namespace: str, name: str) -> None:
        """Delete a Job; its pods go with it."""
        try:
            self._call(self._batch.delete_namespaced_job, name, namespace, propagation_policy="Background")
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise _refusal(error, namespace) from error

    def pods(self, namespace: str, job: str) -> list[Object]:
        """List a Job's pods by the label that the Job controller gives them."""
        found = self._items(self._core.list_namespaced_pod, namespace, label_selector=f"batch.kubernetes.io/job-name={job}")
        return sorted(found, key=lambda pod: (str(pod["metadata"]["creationTimestamp"]), pod["metadata"]["name"]))

    def events(self, namespace: str, name: str) -> list[Object]:
        """List the events about an object."""
        found = self._items(self._core.list_namespaced_event, namespace, field_selector=f"involvedObject.name={name}")
        return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    def log(self, namespace: str, pod: str, container: str) -> Iterator[str]:
        """Follow a container's log."""
        try:
            answer: Any = self._core.read_namespaced_pod_log(
                pod, namespace, container=container, follow=True, timestamps=True, _preload_content=False
            )
        except (ApiException, HTTPError, OSError) as error:
            raise AbsentError from error
        rest = b""
        try:
            for chunk in answer.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        except (HTTPError, OSError) as error:
            raise AbsentError from error
        finally:
            answer.release_conn()
        if rest:
            yield rest.decode(errors="replace")

    def _items(self, call: Any, namespace: str, **options: Any) -> list[Object]:
        try:
            return list(self._call(call, namespace, **options)["items"])
        except ApiException as error:
            raise _refusal(error, namespace) from error

    def _call(self, call: Any, *arguments: Any, **options: Any) -> Object:
        """Call the API and return plain data, as the API server writes it."""
        try:
            answer: Any = call(*arguments, **options, _request_timeout=_SECONDS)
        except (HTTPError, OSError) as error:
            host = self._client.configuration.host
            fix = "Start it (`make up` starts the embedded one), or set KUBECONFIG to another cluster's file."
            raise UnreachableError(f"cluster {host}", f"does not answer ({_short(error)})", fix) from error
        return cast("Object", self._client.sanitize_for_serialization(answer))


class UnreachableError(JobError):
    """The API server gave no answer, or was not able to, which may pass."""


def connect(chosen: ClusterChoice = AMBIENT, environment: Mapping[str, str] = os.environ) -> KubernetesCluster:
    """Return the cluster that is chosen, or else that the environment names: `KUBECONFIG`, `~/.kube/config`, or the pod this runs in.

    Args:
        chosen: What the stack and the builder say, in plain.
        environment: Environment variables.

    Raises:
        SpecError: When a context, cluster or kubeconfig is chosen that is not there.
        JobError: When none is named.
    """
    named = environment.get("KUBECONFIG", "")
    try:
        configuration = configured(named, chosen, environment)
    except (ConfigException, OSError, *NO_YAML, TypeError) as error:
        reason = no_kubeconfig(error) or f"names no cluster that builds could run in ({_short(error)})"
        fix = "Set KUBECONFIG to your cluster's file, or write `builder: local`."
        raise JobError("KUBECONFIG", reason, fix, value=named or None) from error
    return KubernetesCluster(kubernetes.client.ApiClient(configuration))


def _refusal(error: ApiException, namespace: str) -> JobError:
    said = _said(error)
    if error.status == _NOT_FOUND:
        fix = "Create it, or leave `builder.namespace` out: builds then run in their pool's namespace."
        return JobError("builder.namespace", f"does not exist in the cluster: {said}", fix, value=namespace)
    if error.status == _FORBIDDEN:
        return _forbidden(namespace, f"is refused by the cluster: {said}")
    if error.status == _TOO_MANY or (error.status or 0) >= _SERVER_ERROR:
        fix = "Run it again when the API server is well, or see what it or its webhooks log."
        return UnreachableError(
            f"namespace {namespace}", f"the cluster cannot answer now: {said}", fix, value=f"HTTP {error.status}"
        )
    return JobError(
        f"namespace {namespace}", f"the cluster refuses the Job: {said}", "Correct what it names.", value=f"HTTP {error.status}"
    )


def _forbidden(namespace: str, what: str) -> JobError:
    rules = "; ".join(sorted({f"{verb} {resource}" for verb, _, resource in RIGHTS}))
    fix = f"Use a kubeconfig that may do this in that namespace: {rules}. Or write `builder: local`."
    return JobError("KUBECONFIG", f"{what} in namespace {namespace}", fix)


def _said(error: ApiException) -> str:
    try:
        return str(json.loads(str(error.body))["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _short(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[:300]
