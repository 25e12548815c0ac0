"""One registry, spoken to through oras: what its client lacks for large blobs is added here.

oras brings the session, the Docker credentials and the token exchange. Added are: streamed uploads with a known length (oras reads
a blob from a file, or holds chunks), cross-repository mounts, manifests of any type as exact bytes, a new token for each new scope,
plain Basic authentication, quick retries, and errors that a user can act on.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import requests
from oras.container import Container
from oras.provider import Registry
from oras.utils import append_url_params

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci.config import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, digest_of
from gpuserve_images.oci.layers import CHUNK_BYTES
from gpuserve_images.oci.reference import Reference, is_loopback
from gpuserve_images.oci.refusals import refusal, unreachable

# Three retries of doubling waits ride out a restart or a rate limit (3.5 s in all) without making a registry that is down look like a hang.
_ATTEMPTS = 4
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_RETRIED = frozenset({429, 500, 502, 503, 504})
# Seconds to connect, and between two bytes: a registry that checks the digest of a large blob answers late.
_TIMEOUT = (5.0, 300.0)
_ACCEPT = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry holds it: exact bytes, so that its digest can be told."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """Digest of the exact bytes."""
        return digest_of(self.content)


class Body:
    """A request body with a known length that is made anew for every attempt."""

    def __init__(self, size: int, chunks: Callable[[], Iterator[bytes]]) -> None:
        """Take the length in bytes and what makes the pieces."""
        self._size = size
        self._chunks = chunks

    def __len__(self) -> int:
        """Return the length in bytes: requests sends it as Content-Length instead of chunked coding, which some registries refuse."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Start the content from its beginning.

        Raises:
            ImageError: It is longer or shorter than it was: a registry would wait for the rest, or take the excess for a request.
        """
        left = self._size
        for chunk in self._chunks():
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            raise ImageError(
                "upload", "content changed its size while it was sent", "Let what writes the file finish, then run again"
            )


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | Body | None = None
    stream: bool = False


class RegistryClient(Registry):
    """Requests to one registry."""

    def __init__(self, registry: str) -> None:
        """Connect to nothing yet; plain HTTP for a registry on this machine, HTTPS for all others."""
        local = is_loopback(registry)
        super().__init__(hostname=registry, insecure=local)
        # A proxy from the environment could never reach this machine's loopback.
        self.session.trust_env = not local
        self.registry = registry
        self._credentials_loaded = False

    def head_manifest(self, place: Reference) -> str | None:
        """Return the digest of a manifest, or None when the registry lacks it."""
        url = self._url(place, f"manifests/{place.selector}")
        answer = self._ask(place, _Request("HEAD", url, {"Accept": _ACCEPT}), accept=(200, 404))
        if answer.status_code != requests.codes.ok:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        if digest:
            return digest
        found = self.manifest(place)
        return found.digest if found else None

    def manifest(self, place: Reference) -> Manifest | None:
        """Return a manifest or index, or None when the registry lacks it.

        Raises:
            RegistryError: The registry refused, is down, or sent other bytes than the digest asked for.
        """
        url = self._url(place, f"manifests/{place.selector}")
        answer = self._ask(place, _Request("GET", url, {"Accept": _ACCEPT}), accept=(200, 404))
        if answer.status_code != requests.codes.ok:
            return None
        found = Manifest(answer.headers.get("Content-Type", MANIFEST).split(";")[0], answer.content)
        if place.digest and found.digest != place.digest:
            raise RegistryError(
                place.registry,
                place.repository,
                f"it answered {found.digest} when asked for {place.digest}",
                "Something between here and the registry changes content: check the proxy or mirror",
            )
        return found

    def put_manifest(self, place: Reference, manifest: Manifest) -> None:
        """Store a manifest under the tag or digest of `place`."""
        headers = {"Content-Type": manifest.media_type}
        url = self._url(place, f"manifests/{place.tag or manifest.digest}")
        self._ask(place, _Request("PUT", url, headers, manifest.content), accept=(200, 201, 202))

    def has_blob(self, place: Reference, digest: str) -> bool:
        """Tell whether the repository holds a blob."""
        answer = self._ask(place, _Request("HEAD", self._url(place, f"blobs/{digest}")), accept=(200, 404))
        return answer.status_code == requests.codes.ok

    def blob_chunks(self, place: Reference, digest: str) -> Iterator[bytes]:
        """Yield a blob's bytes as they arrive."""
        url = self._url(place, f"blobs/{digest}")
        with self._ask(place, _Request("GET", url, stream=True), accept=(200,)) as answer:
            yield from answer.iter_content(CHUNK_BYTES)

    def mount_blob(self, place: Reference, digest: str, source: str) -> bool:
        """Take a blob over from another repository of this registry; False when the registry does not do it."""
        query = urlencode({"mount": digest, "from": source})
        url = self._url(place, f"blobs/uploads/?{query}")
        # A registry that will not mount opens an upload instead (202); some refuse the other repository's scope (401, 403, 404).
        answer = self._ask(place, _Request("POST", url), accept=(201, 202, 401, 403, 404, 405))
        return answer.status_code == requests.codes.created

    def upload_stream(self, place: Reference, digest: str, body: Body) -> None:
        """Send a blob in one request of known length; begin a new upload when the connection breaks.

        Raises:
            RegistryError: The registry refused, or the connection broke every time.
        """
        for attempt in range(_ATTEMPTS):
            answer = self._ask(place, _Request("POST", self._url(place, "blobs/uploads/")), accept=(202,))
            url = append_url_params(self._get_location(answer, self._container(place)), {"digest": digest})
            headers = {"Content-Type": "application/octet-stream"}
            try:
                answer = self._authorised(_Request("PUT", url, headers, body))
            except requests.RequestException as error:
                if attempt + 1 == _ATTEMPTS:
                    raise unreachable(place, error) from error
            else:
                if answer.status_code in {200, 201, 202}:
                    return
                if answer.status_code not in _RETRIED or attempt + 1 == _ATTEMPTS:
                    raise refusal(place, answer)
            time.sleep(_wait(attempt, None))

    def _ask(self, place: Reference, request: _Request, *, accept: tuple[int, ...]) -> requests.Response:
        """Send a request that may safely be repeated, until the registry gives a final answer."""
        attempt = 0
        while True:
            last = attempt + 1 == _ATTEMPTS
            try:
                answer = self._authorised(request)
            except requests.RequestException as error:
                if last or isinstance(error, requests.exceptions.SSLError):
                    raise unreachable(place, error) from error
                time.sleep(_wait(attempt, None))
            else:
                if answer.status_code in accept:
                    return answer
                if answer.status_code not in _RETRIED or last:
                    raise refusal(place, answer)
                time.sleep(_wait(attempt, answer.headers.get("Retry-After")))
            attempt += 1

    def _authorised(self, request: _Request) -> requests.Response:
        """Send a request; on a refusal get credentials for the scope that the registry names, and send it once more."""
        self._load_credentials()
        answer = self._send(request, self.auth.get_auth_header())
        if answer.status_code not in {401, 403}:
            return answer
        challenge = answer.headers.get("Www-Authenticate", "")
        if challenge.lower().startswith("basic"):
            basic: str | None = getattr(self.auth, "_basic_auth", None)
            return self._send(request, {"Authorization": f"Basic {basic}"}) if basic else answer
        # refresh drops the token of another scope, which oras would send again. oras declares a wrong return type.
        renewed, changed = cast("tuple[dict[str, str], bool]", self.auth.authenticate_request(answer, {}, refresh=True))
        return self._send(request, renewed) if changed else answer

    def _send(self, request: _Request, credentials: dict[str, str]) -> requests.Response:
        return self.session.request(
            request.method,
            request.url,
            data=request.body,
            headers={**request.headers, **credentials},
            stream=request.stream,
            timeout=_TIMEOUT,
            verify=self._tls_verify,
        )

    def _load_credentials(self) -> None:
        if self._credentials_loaded:
            return
        self._credentials_loaded = True
        # oras reads ~/.docker/config.json; DOCKER_CONFIG names another folder, as for every Docker tool.
        folder = os.environ.get("DOCKER_CONFIG")
        config = Path(folder, "config.json") if folder else None
        self.auth.load_configs(Container("any/any", self.registry), [str(config)] if config and config.is_file() else None)

    def _url(self, place: Reference, path: str) -> str:
        return f"{self.prefix}://{self.registry}/v2/{place.repository}/{path}"

    def _container(self, place: Reference) -> Container:
        return Container(place.repository, self.registry)


def _wait(attempt: int, asked: str | None) -> float:
    wait = _FIRST_WAIT_SECONDS * 2**attempt
    if asked and asked.isdigit():
        wait = max(wait, float(asked))
    return min(wait, _LONGEST_WAIT_SECONDS)
