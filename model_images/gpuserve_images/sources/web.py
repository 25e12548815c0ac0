"""`https` addresses, read through requests: passwords from ~/.netrc, proxies and certificates from its usual variables."""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from urllib.parse import urlsplit

import requests
import urllib3

from gpuserve_images.certificates import blame_authorities, trust_own
from gpuserve_images.errors import SourceError
from gpuserve_images.proxies import proxy_fault
from gpuserve_images.sources.addresses import Address
from gpuserve_images.sources.packed import is_packed, unpacked
from gpuserve_images.sources.remote import CHUNK_BYTES, HiccupError, Listing, Reading, RemoteFile
from gpuserve_images.waiting import asked_wait

# Seconds to connect, and between two bytes.
_TIMEOUT = (10.0, 60.0)
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RANGE_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+|\*)")
_LOOPBACK = "localhost,127.0.0.1,::1"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_LOG_IN = "Put its user and password into ~/.netrc, or use an address that you may read."
_ASTRAY = "redirects to what is no address", "Open the address with curl to see where to."
# What another attempt would end in, too, and what to do about it.
_LASTING = (
    (
        requests.exceptions.SSLError,
        "its TLS certificate is not trusted",
        "Set REQUESTS_CA_BUNDLE to the file of its certificate authority.",
    ),
    (requests.exceptions.TooManyRedirects, "redirects in a circle", "Log in where it wants that, or correct the address."),
    ((requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema), *_ASTRAY),
)


class Web:
    """Files that are answers to GET requests."""

    def __init__(self, where: str, *, headers: Mapping[str, str] = _NO_HEADERS, log_in: str = _LOG_IN) -> None:
        """Connect to nothing yet.

        Args:
            where: The address for messages.
            headers: Sent to the address's own host; not to where it redirects to.
            log_in: What to do when it wants credentials.
        """
        self._where = where
        self._headers = headers
        self._log_in = log_in
        # What each file's bytes so far were of, by its URL: an ETag or a time, or None where the server gives neither.
        self._versions: dict[str, str | None] = {}
        self._session = requests.Session()
        trust_own(self._session)

    @contextmanager
    def read(self, file: RemoteFile, start: int) -> Generator[Reading]:
        """Open a URL from a byte on; one without a digest from its start where it may be another file by now."""
        # Bytes as they lie there: their digest and their ranges do not hold for a compressed answer.
        headers = {**self._headers, "Accept-Encoding": "identity"}
        version = self._versions.get(file.where)
        if file.digest is None and version is None and file.where in self._versions:
            start = 0
        if start:
            headers["Range"] = f"bytes={start}-"
        if start and file.digest is None and version is not None:
            headers["If-Range"] = version
        with self._ask(file.where, headers) as answer:
            if answer.status_code == _RANGE_NOT_SATISFIABLE and start:
                size = answer.headers.get("Content-Range", "").removeprefix("bytes */")
                if size == str(start):
                    yield Reading(start, start, iter(()))
                    return
                # There is less than what is here already: it is another file by now.
                with self.read(file, 0) as anew:
                    yield anew
                return
            self._refuse(answer)
            self._refuse_detour(file, answer)
            found = _version(answer)
            names = tuple(urlsplit(url).path for url in (file.where, answer.url))
            packed = is_packed(self._where, answer.headers.get("Content-Encoding", ""), names)
            ignored = "If-Range" in headers and found not in {None, version}
            partial = start > 0 and answer.status_code == requests.codes.partial
            if partial and (packed or ignored):
                # A part of packed bytes, and what is here is unpacked; or of another file, from a server that does not look at If-Range.
                with self.read(file, 0) as anew:
                    yield anew
                return
            if not partial:
                self._versions[file.where] = None if packed else found
            yield Reading(0, None, unpacked(_chunks(answer))) if packed else self._reading(answer)

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        try:
            return self._session.get(url, headers=headers, stream=True, timeout=_TIMEOUT, proxies=_not_proxied())
        except OSError as error:
            if wrong := blame_authorities(error):
                raise SourceError(self._where, *wrong) from error
            if not isinstance(error, requests.RequestException):
                raise
            raise self._unreachable(error, urlsplit(url).scheme) from error
        except ValueError as error:
            raise SourceError(self._where, *_ASTRAY) from error

    def _reading(self, answer: requests.Response) -> Reading:
        if answer.status_code == requests.codes.partial:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if match is None:
                raise HiccupError("it sent a part of the file without saying which")
            return Reading(int(match["start"]), None if match["size"] == "*" else int(match["size"]), _chunks(answer))
        length = answer.headers.get("Content-Length", "")
        return Reading(0, int(length) if length.isdigit() else None, _chunks(answer))

    def _refuse(self, answer: requests.Response) -> None:
        status = answer.status_code
        if status in {200, 206}:
            return
        if status in _PASSING:
            what = "too many requests" if status == requests.codes.too_many_requests else "the server failed"
            raise HiccupError(f"HTTP {status}: {what}", asked_wait(answer.headers.get("Retry-After")))
        reason, fix = {
            401: ("wants credentials, and none were given or they are wrong", self._log_in),
            403: ("may not be read with these credentials", self._log_in),
            404: ("does not exist", "Correct the address."),
            410: ("is gone", "Find where it moved to, and correct the address."),
        }.get(status, ("was refused", "Open the address with curl to see why."))
        raise SourceError(self._where, reason, fix, value=f"HTTP {status}")

    def _refuse_detour(self, file: RemoteFile, answer: requests.Response) -> None:
        """Refuse what came without encryption from an address with it, unless a digest tells whether it is the right file."""
        asked = [each.url for each in (*answer.history, answer)]
        if file.digest is None and asked[0].startswith("https://") and not all(url.startswith("https://") for url in asked):
            reason = "redirects to an address without encryption, so whoever is between can change what would be pinned"
            raise SourceError(self._where, reason, "Use an address that stays with https://.")

    def _unreachable(self, error: requests.RequestException, scheme: str) -> Exception:
        # Never the error's own text: it holds the URL with all that is secret in it.
        if fault := proxy_fault(error, scheme):
            return SourceError(self._where, fault.reason, fault.fix) if fault.lasting else HiccupError(fault.reason)
        for kinds, reason, fix in _LASTING:
            if isinstance(error, kinds):
                return SourceError(self._where, reason, fix)
        if "NameResolution" in repr(error):
            return SourceError(self._where, "its host name does not resolve", "Correct the address, or look at the network.")
        if isinstance(error, requests.exceptions.Timeout):
            return HiccupError("it did not answer in time")
        return HiccupError("the connection failed")


class WebFile(Web):
    """The one file at an `https` address."""

    def __init__(self, address: Address) -> None:
        """Connect to nothing yet."""
        super().__init__(address.shown)
        self._address = address

    def listing(self) -> Listing:
        """Return the file; nothing is asked before it is read."""
        return Listing((RemoteFile(self._address.name, self._address.text),), folder=False)


def _not_proxied() -> dict[str, str]:
    """Return the hosts that no proxy is asked for: the environment's, and this machine, which a proxy could never reach."""
    said = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").strip()
    return {"no_proxy": said if said == "*" else ",".join(filter(None, [said, _LOOPBACK]))}


def _version(answer: requests.Response) -> str | None:
    """Return what tells one content of a URL from another; a weak ETag does not."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified") or None


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    try:
        yield from answer.raw.stream(CHUNK_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise HiccupError("the connection was cut") from error
