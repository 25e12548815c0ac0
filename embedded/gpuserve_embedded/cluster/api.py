"""A few requests to the API server: apply, read, and wait.

Not the official client: its dynamic half asks every API group before the first request and fails while one aggregated API is
still starting, which is the very time this module is for.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

import requests

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import API_SERVER, PKI

Manifest: TypeAlias = Mapping[str, Any]

_FIELD_MANAGER: Final = "gpuserve-embedded"
_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
_OPENAPI: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""The form of the API's description that Go clients ask for; the server makes each form when it is first asked for."""
_RETRY_STATUS: Final = frozenset({409, 429, 500, 503})


class Api:
    """The cluster's API server, spoken to as its administrator."""

    def __init__(self) -> None:
        """Open no connection yet."""
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy for the internet knows nothing of this machine's addresses
        self._session.verify = str(PKI / "ca.crt")
        self._session.cert = (str(PKI / "admin.crt"), str(PKI / "admin.key"))
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the object or list at an API path; None where there is none."""
        with suppress(OSError, ValueError):  # no answer, no certificates yet, or no JSON
            response = self._session.get(API_SERVER + path, timeout=_TIMEOUT_SECONDS)
            if response.ok:
                return cast("dict[str, Any]", response.json())
        return None

    def describes_itself(self) -> bool:
        """Return whether the server has its description (OpenAPI) ready.

        Pulumi's provider waits 32 s for it and gives up then, which is too short for a slow machine's first time.
        """
        with suppress(requests.RequestException):
            return self._session.get(f"{API_SERVER}/openapi/v2", headers={"Accept": _OPENAPI}, timeout=_TIMEOUT_SECONDS).ok
        return False

    def apply(self, manifests: Iterable[Manifest], *, timeout_seconds: float = 240.0) -> None:
        """Apply objects on the server's side, in order; one whose kind or namespace is not there yet is tried again.

        Raises:
            ClusterError: the server refused an object, or did not take it within the time.
        """
        deadline = time.monotonic() + timeout_seconds
        for manifest in manifests:
            self._apply(manifest, deadline)

    def _apply(self, manifest: Manifest, deadline: float) -> None:
        reason = "the API server does not answer"
        while True:
            with suppress(requests.RequestException):
                path = self._path(manifest)
                if path is None:
                    reason = f"the API server does not answer, or offers no {manifest['kind']} in {manifest['apiVersion']}"
                else:
                    response = self._session.patch(
                        API_SERVER + path,
                        params={"fieldManager": _FIELD_MANAGER, "force": "true"},
                        data=json.dumps(manifest),
                        headers={"Content-Type": "application/apply-patch+yaml"},
                        timeout=_TIMEOUT_SECONDS,
                    )
                    if response.ok:
                        return
                    reason = _reason(response)
                    if response.status_code not in _RETRY_STATUS and not _waits_for_namespace(response):
                        raise _refused(manifest, reason)
            if time.monotonic() > deadline:
                raise _refused(manifest, reason)
            time.sleep(_POLL_SECONDS)

    def _path(self, manifest: Manifest) -> str | None:
        version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self._plurals:
            for resource in (self.get(prefix) or {}).get("resources", []):
                if "/" not in resource["name"]:
                    self._plurals[version, resource["kind"]] = (resource["name"], resource["namespaced"])
        known = self._plurals.get((version, kind))
        if known is None:
            return None
        plural, namespaced = known
        metadata = manifest["metadata"]
        scope = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{prefix}{scope}/{plural}/{metadata['name']}"


def wait_until(
    step: str, is_done: Callable[[], str | None], *, timeout_seconds: float, fix: str, poll_seconds: float = _POLL_SECONDS
) -> None:
    """Wait until a check finds nothing wanting.

    Args:
        step: what is waited for.
        is_done: returns what is still wanting, None when nothing is.
        timeout_seconds: for how long.
        fix: what to do where it takes longer.
        poll_seconds: time between two checks.

    Raises:
        ClusterError: something is still wanting; it says what.
    """
    deadline = time.monotonic() + timeout_seconds
    while (wanting := is_done()) is not None:
        if time.monotonic() > deadline:
            raise ClusterError(step, wanting, f"not done within {timeout_seconds:g} s", fix)
        time.sleep(poll_seconds)


def _reason(response: requests.Response) -> str:
    with suppress(ValueError, KeyError):
        return str(response.json()["message"]).rstrip(".")
    return f"status {response.status_code}"


def _waits_for_namespace(response: requests.Response) -> bool:
    return response.status_code in {403, 404} and "namespaces" in response.text


def _refused(manifest: Manifest, reason: str) -> ClusterError:
    metadata = manifest["metadata"]
    name = "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)
    return ClusterError(
        "apply a manifest",
        f"{manifest['kind']} {name}",
        reason,
        "see /var/lib/gpuserve/logs/kube-apiserver.log; stop the cluster and start it again",
    )
