"""Reading a cluster's objects as plain data."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from gpuserve.cli.output import notice
from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.errors import GpuserveError, Problem, SpecError
from gpuserve.kubernetes.kubeconfig import NO_YAML, configured, line, no_kubeconfig

TIMEOUT = 10
"""Seconds to wait for one answer of the API server."""

Object = Mapping[str, Any]
"""A Kubernetes object as the API server returns it."""


class ClusterUnreachableError(GpuserveError):
    """There is no cluster to ask, or it does not answer."""


class Cluster:
    """A connection to an API server, to read only.

    Attributes:
        address: Where the API server is.
        version: Its version, such as ``v1.36.3``.
    """

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        """Connect with ``client``; asks the API server for its version and for the kinds it has."""
        self.address = str(client.configuration.host)
        # The first question has a time limit, unlike the discovery of kinds after it.
        self.version = str(kubernetes.client.VersionApi(client).get_code(_request_timeout=TIMEOUT).git_version)
        self._dynamic = DynamicClient(client)

    def list(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Return the objects of one kind in a namespace; none when the cluster has no such kind."""
        found = self._read(api_version, kind, namespace=namespace, label_selector=selector)
        return [{"kind": kind, **item} for item in found.get("items", [])] if found else []

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return one object, or ``None`` when the object or its kind does not exist."""
        return self._read(api_version, kind, name=name, namespace=namespace)

    def _read(self, api_version: str, kind: str, **which: Any) -> Object | None:
        """Return what the API server answers, or ``None`` for what does not exist; every other refusal, and silence, is an error."""
        try:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            return resource.get(**which, _request_timeout=TIMEOUT).to_dict()
        except ResourceNotFoundError:
            return None
        except ApiException as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP: not found
                return None
            raise ClusterUnreachableError(
                f"cluster: refuses to be read ({error.reason}). Fix: use a kubeconfig that may"
            ) from error
        except (HTTPError, OSError) as error:
            raise _silent(self.address, error) from error


def connect(kubeconfig: str | None = None, chosen: ClusterChoice = AMBIENT) -> Cluster:
    """Return a cluster to read.

    Args:
        kubeconfig: Path of its kubeconfig; without one, what the environment names: ``KUBECONFIG``, ``~/.kube/config``, or the
            pod this runs in.
        chosen: What the stack file says, which comes first. Default: nothing.

    Raises:
        SpecError: When the stack file names what the kubeconfig does not have, or what only Pulumi can read.
        ClusterUnreachableError: When no cluster is named, or it does not answer.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG", "")
    chosen = _readable(chosen, named)
    try:
        configuration = configured(named, chosen)
    except (ConfigException, OSError, *NO_YAML, TypeError) as error:
        where = f"KUBECONFIG = {named!r}" if named else "KUBECONFIG"
        raise ClusterUnreachableError(
            f"{where}: {_no_config(named, error)}. Fix: run `make up`, or set KUBECONFIG to your cluster's file"
        ) from error
    try:
        return Cluster(kubernetes.client.ApiClient(configuration))
    except (HTTPError, ApiException, OSError) as error:
        raise _silent(configuration.host, error) from error


def _readable(chosen: ClusterChoice, named: str) -> ClusterChoice:
    """Return what of a choice can be followed without Pulumi: of an encrypted kubeconfig the one that the environment names.

    Raises:
        SpecError: When something is encrypted that nothing can stand in for.
    """
    problems: list[Problem] = []
    for key in sorted(chosen.encrypted):
        if key != "kubeconfig":
            fix = f"write it in plain: `pulumi config set kubernetes:{key} ...`"
            problems.append(Problem(chosen.field(key), None, "is encrypted, and only Pulumi can read it", fix, chosen.file))
        elif not named:
            fix = "write it to a file (`pulumi config get kubernetes:kubeconfig`), and set KUBECONFIG to that"
            problems.append(Problem(chosen.field(key), None, "is encrypted, and only Pulumi can read it", fix, chosen.file))
        else:
            notice(f"{chosen.file}: config.kubernetes:kubeconfig is encrypted; KUBECONFIG is taken in its place ({named})")
    if problems:
        raise SpecError(problems)
    return replace(chosen, encrypted=frozenset())


def _silent(address: str, error: Exception) -> ClusterUnreachableError:
    reason = str(getattr(error, "reason", None) or error)
    fix = "start it (`make up` starts the embedded one), or set KUBECONFIG to another cluster's file"
    return ClusterUnreachableError(f"cluster {address}: does not answer ({reason}). Fix: {fix}")


def _no_config(named: str, error: Exception) -> str:
    """Return why no cluster is named, in the user's terms where the library's are vague."""
    wrong = no_kubeconfig(error)
    if not named:
        return f"is not set, and {Path('~/.kube/config').expanduser()} {wrong or 'names no cluster either'}"
    if not any(Path(file).exists() for file in named.split(os.pathsep)):
        return "the file does not exist"
    return wrong or f"names no cluster ({line(error)})"
