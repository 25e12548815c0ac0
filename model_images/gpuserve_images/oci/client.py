"""One registry, spoken to in the protocol of the OCI distribution specification 1.1.

Requests that may safely be repeated are repeated quietly for a few seconds; everything else becomes an error that a user can act on.
Large blobs are sent by `uploads`.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from gpuserve_images.certificates import blame_authorities, trust_own
from gpuserve_images.errors import BrokenOffError, RegistryError
from gpuserve_images.oci.authorisation import Authorisation, Scope
from gpuserve_images.oci.config import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, digest_of, encode
from gpuserve_images.oci.layers import CHUNK_BYTES
from gpuserve_images.oci.manifests import Manifest, require_sound
from gpuserve_images.oci.pages import pages
from gpuserve_images.oci.reference import Reference, address_of
from gpuserve_images.oci.refusals import BROKEN_OFF, astray, document, lasts, refusal, unreachable
from gpuserve_images.oci.retries import ATTEMPTS, RETRIED, pause

# Seconds to connect, and between two bytes: a registry that checks the digest of a large blob answers late.
_TIMEOUT = (5.0, 300.0)
_ACCEPT = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
_USUAL_PORTS = {"https": ":443", "http": ":80"}
_FIRST_BYTE = re.compile(r"bytes (\d+)-")
# A token may expire between its arrival and its use, but not time after time.
_RENEWALS = 2
# Connections kept open: more than any sensible number of uploads at once.
_CONNECTIONS = 32


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
        """Start the content from its beginning."""
        return self._chunks()


@dataclass(frozen=True)
class Request:
    """One request, of which `writes` says what access it needs."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | Body | None = None
    stream: bool = False

    @property
    def writes(self) -> bool:
        """Whether it needs more than the right to pull."""
        return self.method not in {"GET", "HEAD"} or "/blobs/uploads/" in self.url


class RegistryClient:
    """Requests to one registry; several threads may use one client."""

    def __init__(self, registry: str) -> None:
        """Connect to nothing yet; plain HTTP for a registry on this machine, HTTPS for all others (see `address_of`)."""
        address = address_of(registry)
        self.registry = registry
        self._root = f"{address}/v2/"
        session = requests.Session()
        # A proxy from the environment could never reach this machine's loopback, nor what a pod reaches without TLS.
        session.trust_env = address.startswith("https://")
        trust_own(session)
        # Credentials come from the Docker configuration alone: requests would take others from ~/.netrc.
        session.auth = _no_other_credentials
        # Some registries (Harbor) take a cookie for a browser's, and then want a CSRF token with it.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS))
        self._session = session
        self._authorisation = Authorisation(registry, session)
        self._lock = threading.Lock()
        self._has_referrers: bool | None = None

    def head_manifest(self, place: Reference) -> str | None:
        """Return the digest of a manifest, or None when the registry lacks it.

        Raises:
            RegistryError: The registry refused, is down, or named another digest than the one asked for.
        """
        url = self.url(place, f"manifests/{place.selector}")
        # A registry, or a proxy before it, may not know HEAD.
        answer = self.ask(place, Request("HEAD", url, {"Accept": _ACCEPT}), accept=(200, 404, 405))
        if answer.status_code == requests.codes.not_found:
            return None
        digest = answer.headers.get("Docker-Content-Digest") if answer.ok else None
        if digest and place.digest and digest != place.digest:
            raise _other_bytes(place, digest, place.digest)
        if digest:
            return digest
        found = self.manifest(place)
        return found.digest if found else None

    def manifest(self, place: Reference) -> Manifest | None:
        """Return a manifest or index, or None when the registry lacks it.

        Raises:
            RegistryError: The registry refused, is down, is none, sent other bytes than the digest asked for, or holds a manifest
                whose descriptors do not say what they describe.
        """
        url = self.url(place, f"manifests/{place.selector}")
        answer = self.ask(place, Request("GET", url, {"Accept": _ACCEPT}), accept=(200, 404))
        if answer.status_code != requests.codes.ok:
            return None
        require_sound(place, document(place, answer))
        found = Manifest(answer.headers.get("Content-Type", MANIFEST).split(";")[0], answer.content)
        if place.digest and found.digest != place.digest:
            raise _other_bytes(place, found.digest, place.digest)
        return found

    def put_manifest(self, place: Reference, manifest: Manifest) -> bool:
        """Store a manifest under the tag of `place`, or without one under its digest.

        Returns:
            Whether the registry says that it keeps track of the manifest's subject (`OCI-Subject`).
        """
        headers = {"Content-Type": manifest.media_type}
        url = self.url(place, f"manifests/{place.tag or manifest.digest}")
        answer = self.ask(place, Request("PUT", url, headers, manifest.content), accept=(200, 201, 202))
        return "OCI-Subject" in answer.headers

    def has_blob(self, place: Reference, digest: str) -> bool:
        """Tell whether the repository holds a blob."""
        answer = self.ask(place, Request("HEAD", self.url(place, f"blobs/{digest}")), accept=(200, 404))
        return answer.status_code == requests.codes.ok

    def blob_chunks(self, place: Reference, digest: str, start: int = 0, *, size: int | None = None) -> Iterator[bytes]:
        """Yield a blob's bytes as they arrive, from a byte on, and none beyond its size where that is known.

        Raises:
            RegistryError: The registry refused, is down or sent more; a BrokenOffError where it broke off in the middle.
        """
        # As they are stored: bytes that a proxy packs for the way could not be counted.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        request = Request("GET", self.url(place, f"blobs/{digest}"), headers, stream=True)
        with self.ask(place, request, accept=(200, 206)) as answer:
            skip = start - _first_byte(answer, start)
            if skip < 0:
                raise BrokenOffError(place.registry, place.repository, *BROKEN_OFF)
            reached = start
            try:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    kept = chunk[skip:]
                    skip = max(0, skip - len(chunk))
                    reached += len(kept)
                    if size is not None and reached > size:
                        raise _other_bytes(place, f"more than {size} bytes", digest)
                    if kept:
                        yield kept
            except requests.RequestException as error:
                raise BrokenOffError(place.registry, place.repository, *BROKEN_OFF) from error

    def blob(self, place: Reference, digest: str, size: int | None = None) -> bytes:
        """Return a small blob whole.

        Raises:
            RegistryError: The registry refused, is down, or sent other bytes than the digest asked for, or more than its size.
        """
        content = b"".join(self.blob_chunks(place, digest, size=size))
        if digest_of(content) != digest:
            raise _other_bytes(place, digest_of(content), digest)
        return content

    def mount_blob(self, place: Reference, digest: str, source: str) -> bool:
        """Take a blob over from another repository of this registry; False when the registry does not do it."""
        query = urlencode({"mount": digest, "from": source})
        url = self.url(place, f"blobs/uploads/?{query}")
        # A registry that will not mount opens an upload instead (202); some refuse the other repository's scope (401, 403, 404).
        answer = self.ask(place, Request("POST", url), accept=(201, 202, 401, 403, 404, 405))
        return answer.status_code == requests.codes.created

    def referrers(self, place: Reference, digest: str) -> Manifest | None:
        """Return the index of what refers to a manifest; None when the registry has no such endpoint."""
        with self._lock:
            if self._has_referrers is False:
                return None
        request = Request("GET", self.url(place, f"referrers/{digest}"), {"Accept": INDEX})
        answer = self.ask(place, request, accept=(200, 404, 400, 405))
        found = answer.status_code == requests.codes.ok and answer.headers.get("Content-Type", "").startswith(INDEX)
        with self._lock:
            self._has_referrers = found
        if not found:
            return None
        read = [require_sound(replace(place, tag=None, digest=digest), page) for page in pages(self, place, request, answer)]
        entries = [entry for page in read for entry in page.get("manifests") or []]
        return Manifest(INDEX, answer.content if len(read) == 1 else encode({**read[0], "manifests": entries}))

    def ask(self, place: Reference, request: Request, *, accept: tuple[int, ...]) -> requests.Response:
        """Send a request that may safely be repeated, until the registry gives a final answer.

        Raises:
            RegistryError: The registry refused, or is down.
        """
        attempt = 0
        while True:
            last = attempt + 1 == ATTEMPTS
            try:
                answer = self.send(place, request)
            except requests.RequestException as error:
                if last or lasts(error):
                    raise unreachable(place, error) from error
                pause(attempt)
            else:
                if answer.status_code in accept:
                    return answer
                if answer.status_code not in RETRIED or last:
                    raise refusal(place, answer)
                pause(attempt, answer.headers.get("Retry-After"))
            attempt += 1

    def send(self, place: Reference, request: Request) -> requests.Response:
        """Send a request; on a refusal get a token for the scope that the registry names, and send it again.

        Another host, which an upload or a redirect may name, is sent no credentials, whatever it asks for.
        """
        if not self._is_own(request.url):
            return self._once(request, {})
        scope = Scope(place.repository, request.writes)
        header = self._authorisation.header(scope)
        answer = self._once(request, header)
        for _ in range(_RENEWALS):
            if answer.status_code not in {401, 403} or not self._is_own(answer.url):
                break
            if not self._authorisation.renew(scope, answer, header):
                break
            header = self._authorisation.header(scope)
            answer = self._once(request, header)
        return answer

    def url(self, place: Reference, path: str) -> str:
        """Return the address of something in a repository."""
        return f"{self._root}{place.repository}/{path}"

    def location(self, answer: requests.Response) -> str:
        """Return the address that an answer points to, which may be relative to the one that was asked (RFC 9110, 10.2.2).

        Raises:
            RegistryError: It is no address.
        """
        try:
            found = urljoin(answer.url, answer.headers.get("Location", ""))
            urlsplit(found)
        except ValueError as error:
            raise astray(self.registry, None) from error
        return found

    def _is_own(self, url: str) -> bool:
        """Tell whether an address is the registry's own, and not another host's."""
        return _origin(url) == _origin(self._root)

    def _once(self, request: Request, credentials: dict[str, str]) -> requests.Response:
        try:
            return self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers={**request.headers, **credentials},
                stream=request.stream,
                timeout=_TIMEOUT,
            )
        except OSError as error:
            if wrong := blame_authorities(error):
                raise RegistryError(self.registry, None, *wrong) from error
            raise
        except ValueError as error:
            # Of a redirect; what was asked for is an address.
            raise requests.exceptions.InvalidURL(str(error)) from error


def _origin(url: str) -> tuple[str, str]:
    """Return scheme, host and port; a user's name before the host makes it another."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower().removesuffix(_USUAL_PORTS.get(parts.scheme, ""))


def _first_byte(answer: requests.Response, asked: int) -> int:
    """Return where an answer begins: a registry without ranges sends all of the blob."""
    if answer.status_code == requests.codes.ok:
        return 0
    match = _FIRST_BYTE.match(answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else asked


def _other_bytes(place: Reference, found: str, wanted: str) -> RegistryError:
    fix = "Something between here and the registry changes content: check the proxy or mirror"
    return RegistryError(place.registry, place.repository, f"it answered {found} when asked for {wanted}", fix)


def _no_other_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
