"""What a registry's refusal means, and what to do about it."""

from typing import Any, cast

import requests

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.config import Json
from gpuserve_images.oci.reference import Reference
from gpuserve_images.proxies import proxy_fault

BROKEN_OFF = (
    "the connection broke during the transfer",
    "Run again; if it stays, see the registry's log, and the time limit of a proxy before it",
)
"""Reason and fix of a transfer that began and did not come to its end."""

_MESSAGE_CHARACTERS = 300


ASTRAY = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.TooManyRedirects)
"""Errors of a registry whose answer leads to where nothing can be asked."""


def lasts(error: requests.RequestException) -> bool:
    """Tell whether another attempt would end in the same error."""
    fault = proxy_fault(error)
    return isinstance(error, (requests.exceptions.SSLError, *ASTRAY)) or (fault is not None and fault.lasting)


def astray(registry: str, repository: str | None) -> RegistryError:
    """Return the error for an answer that leads to where nothing can be asked."""
    fix = "Look at what stands before the registry: a proxy or load balancer that makes the addresses in its answers wrong"
    return RegistryError(registry, repository, "it leads to an address that is none, or in a circle", fix)


def unreachable(place: Reference, error: requests.RequestException) -> RegistryError:
    """Return the error for a registry that gave no answer."""
    if fault := proxy_fault(error):
        return RegistryError(place.registry, place.repository, fault.reason, fault.fix)
    if isinstance(error, ASTRAY):
        return astray(place.registry, place.repository)
    if isinstance(error, requests.exceptions.SSLError):
        return RegistryError(
            place.registry,
            place.repository,
            f"its TLS certificate is not trusted, or it speaks plain HTTP ({_first_line(error)})",
            "Set REQUESTS_CA_BUNDLE to the file of its certificate authority, or use a registry with a valid certificate",
        )
    if isinstance(error, requests.exceptions.Timeout):
        reason = "it did not answer in time"
    elif "NameResolution" in repr(error):
        reason = "its host name does not resolve"
    elif isinstance(error, requests.exceptions.ChunkedEncodingError) or "aborted" in str(error):
        return RegistryError(place.registry, place.repository, *BROKEN_OFF)
    else:
        reason = f"registry {place.registry} is down or not reachable ({_first_line(error)})"
    return RegistryError(place.registry, place.repository, reason, "Start the registry, or change `registry` to one that runs")


def refusal(place: Reference, answer: requests.Response) -> RegistryError:
    """Return the error for an HTTP status that was not expected."""
    status = answer.status_code
    reason, fix = _MEANINGS.get(status, ("it refused the request", "See the registry's log"))
    said = _said(answer)
    return RegistryError(place.registry, place.repository, f"{reason}: {said}" if said else reason, fix, status=status)


def document(place: Reference, answer: requests.Response) -> Json:
    """Return the object that a registry answered.

    Raises:
        RegistryError: It is none: something else than a registry says yes to every question.
    """
    try:
        found: Any = answer.json()
    except requests.RequestException:
        found = None
    if isinstance(found, dict):
        return cast("Json", found)
    kind = answer.headers.get("Content-Type", "of no type").split(";")[0]
    fix = "Correct the address: another server, or the log-in page of a proxy, answers in the place of a registry"
    raise RegistryError(place.registry, place.repository, f"it answered something that no registry does ({kind})", fix)


_LOG_IN = "Log in (`docker login` or `oras login` with the registry's name), or set DOCKER_CONFIG to the folder of a config.json that knows it"
_MEANINGS: dict[int, tuple[str, str]] = {
    400: ("it found the request wrong", "If it names a digest, a file changed while it was sent: run again"),
    401: ("it wants credentials", _LOG_IN),
    403: ("these credentials may not do this", f"Ask for push access to the repository. {_LOG_IN}"),
    404: ("it has no such repository or blob", "Create the repository first if this registry needs that, and check its name"),
    413: ("the blob is larger than it takes", "Raise the body size limit of the registry or of the proxy before it"),
    429: ("too many requests", "Wait a minute and run again, or log in for a higher limit"),
    507: ("its disk is full", "Free space on the registry"),
    500: ("it failed", "See the registry's log: a full disk is the usual cause. Then run again"),
    502: ("the proxy before it gets no answer", "See that the registry runs, then run again"),
    503: ("it is not available", "See that the registry runs, then run again"),
    504: ("the proxy before it timed out", "Run again; raise the proxy's time limit if it stays"),
}


def _said(answer: requests.Response) -> str:
    """Return the messages of an OCI error body, or nothing."""
    try:
        body: Any = answer.json()
    except requests.RequestException:
        return ""
    if not isinstance(body, dict):
        return ""
    listed = cast("dict[str, Any]", body).get("errors")
    errors = cast("list[Any]", listed) if isinstance(listed, list) else []
    said = [f"{error.get('code', '')} {error.get('message', '')}".strip() for error in errors if isinstance(error, dict)]
    return "; ".join(said)[:_MESSAGE_CHARACTERS]


def _first_line(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    text = str(cause).split("\n", 1)[0]
    return text.rsplit(": ", 1)[-1][:_MESSAGE_CHARACTERS]
