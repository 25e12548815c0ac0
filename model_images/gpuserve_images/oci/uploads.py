"""Sending one blob: in pieces, so that a cut connection costs a piece and not the whole.

A small blob goes in one request. A large one goes as a series of PATCH requests with `Content-Range`; after a cut the registry is asked
how much it has, and the upload goes on from there. Where the registry forgot the upload it begins anew, and a registry that does
not take pieces gets the blob in one request (distribution specification 1.1, "Pushing blobs"). Where a large one goes is remembered, so
that the next process goes on with what a killed one began.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import memory
from gpuserve_images.oci.client import Body, RegistryClient, Request
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.refusals import ASTRAY, refusal, unreachable
from gpuserve_images.oci.retries import ATTEMPTS, RETRIED, pause

PIECE_BYTES = 64 << 20
"""Bytes sent in one request: seconds of work lost by a cut, and far above the 5 MiB that registries on S3 want at least."""

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
# A piece's part that a broken-off attempt must have brought to count as getting on.
_GAIN = 16
_STREAM = {"Content-Type": "application/octet-stream"}
# Answers to a first piece by which registries say that they take none.
_NO_PIECES = frozenset({400, 404, 405, 415, 416, 501})


class Content:
    """A blob's bytes, readable from any offset; going on where the last reading ended costs nothing."""

    def __init__(
        self,
        size: int,
        chunks: Callable[[], Iterator[bytes]],
        sent: Callable[[int], None] | None = None,
        *,
        seek: Callable[[int], Iterator[bytes]] | None = None,
    ) -> None:
        """Describe content that nothing is read of yet.

        Args:
            size: Its length in bytes.
            chunks: Makes its pieces from the beginning.
            sent: Told of bytes sent for the first time.
            seek: Makes its pieces from a byte on. Default: what comes before that byte is read too, and dropped.
        """
        self.size = size
        self._chunks = chunks
        self._seek = seek
        self._sent = sent
        self._stream: Iterator[bytes] = iter(())
        self._rest = b""
        self._position = -1
        self._furthest = 0

    def part(self, start: int, length: int) -> Body:
        """Return the bytes from `start` on as a request body.

        Reading it raises ImageError when the content is longer or shorter than it was: a registry would wait for the rest, or take
        the excess for a request.
        """
        return Body(length, lambda: self._read(start, length))

    def _read(self, start: int, length: int) -> Iterator[bytes]:
        self._go_to(start)
        left = length
        while left:
            chunk = self._rest or next(self._stream, b"")
            if not chunk:
                raise _changed()
            self._rest = chunk[left:]
            piece = chunk[:left]
            left -= len(piece)
            self._position += len(piece)
            yield piece
            if self._sent and self._position > self._furthest:
                self._sent(self._position - self._furthest)
                self._furthest = self._position
        if self._position == self.size and (self._rest or next(self._stream, b"")):
            raise _changed()

    def _go_to(self, start: int) -> None:
        if start == self._position:
            return
        self._rest, skip = b"", 0 if self._seek else start
        self._stream = self._seek(start) if self._seek else iter(self._chunks())
        while skip:
            chunk = next(self._stream, b"")
            if not chunk:
                raise _changed()
            self._rest = chunk[skip:]
            skip -= min(skip, len(chunk))
        self._position = start


@dataclass
class _Session:
    """An upload that the registry knows: where the next bytes go, and how many it has."""

    url: str
    offset: int = 0
    resumed: bool = False


class _Interrupted(Exception):  # noqa: N818 - not an error: it says how to go on
    """Sending broke off for a reason that may pass."""

    def __init__(self, error: RegistryError, wait: str | None = None, *, lost: bool = False) -> None:
        self.error = error
        self.wait = wait
        self.lost = lost
        super().__init__(str(error))


@dataclass
class Upload:
    """One blob on its way into a repository.

    Attributes:
        client: Client of the registry.
        place: The repository.
        digest: Digest of the content; the registry checks it.
        content: The bytes.
        piece: Bytes per request; a registry may ask for more.
        kept: Bytes that the registry had from an earlier process.
    """

    client: RegistryClient
    place: Reference
    digest: str
    content: Content
    piece: int = PIECE_BYTES
    kept: int = field(default=0, init=False)
    _remembers: bool = field(default=False, init=False)

    def run(self) -> None:
        """Send the content.

        Raises:
            RegistryError: The registry refused, or sending broke off again and again without getting on.
            ImageError: The content changed while it was sent.
        """
        if self.content.size <= self.piece:
            self._run(None, whole=True)
            return
        # Two processes in one upload would spoil it for each other: the second begins one of its own, which is not remembered.
        with memory.unshared("/".join(self._name)) as self._remembers:
            try:
                self._run(self._begun_before(), whole=False)
            except RegistryError as error:
                # One that breaks off, or fails for now, is gone on with; so is one whose base's registry failed.
                if error.registry == self.place.registry and error.status not in {None, *RETRIED}:
                    self._forget()
                raise
            self._forget()

    def _run(self, session: _Session | None, *, whole: bool) -> None:
        furthest = failures = 0
        while True:
            try:
                session = session or self._begin()
                if whole:
                    self._send_whole(session)
                    return
                if self._send_pieces(session):
                    return
                whole, session = True, None
            except _Interrupted as cut:
                # What counts is getting on: a long upload over a bad line may break off many times.
                offset = session.offset if session else 0
                gained = offset - furthest >= self.piece // _GAIN
                failures = 1 if gained else failures + 1
                furthest = offset if gained else furthest
                if failures == ATTEMPTS:
                    raise cut.error from None
                pause(failures - 1, cut.wait)
                session = None if whole or session is None or cut.lost else self._resumed(session)
                self.kept = self.kept if session else 0
                # The answer may be all that was cut off.
                if session is None and self.client.has_blob(self.place, self.digest):
                    return

    def _begin(self) -> _Session:
        answer = self.client.ask(self.place, Request("POST", self.client.url(self.place, "blobs/uploads/")), accept=(202,))
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdigit():
            self.piece = max(self.piece, int(least))
        session = _Session(self.client.location(answer))
        self._remember(session)
        return session

    @property
    def _name(self) -> tuple[str, str, str]:
        return self.place.registry, self.place.repository, self.digest

    def _begun_before(self) -> _Session | None:
        """Return the upload that an earlier process began, if the registry still has it."""
        url = memory.recall_upload(*self._name) if self._remembers else None
        if url is None or not self._is_here(url):
            return None
        try:
            session = self._resumed(_Session(url))
        except RegistryError as error:
            if error.status is None:
                raise
            return None
        self.kept = session.offset if session else 0
        return session

    def _remember(self, session: _Session) -> None:
        if self._remembers and self._is_here(session.url):
            memory.remember_upload(*self._name, session.url)

    def _forget(self) -> None:
        if self._remembers:
            memory.forget_upload(*self._name)

    def _is_here(self, url: str) -> bool:
        """Return whether an address is the registry's own, without a password: those of a store behind it may be signed for anybody."""
        there, here = urlsplit(url), urlsplit(self.client.url(self.place, ""))
        return (there.scheme, there.netloc) == (here.scheme, here.netloc) and "@" not in there.netloc

    def _send_whole(self, session: _Session) -> None:
        self._finish(session, self.content.part(0, self.content.size) if self.content.size else None)

    def _send_pieces(self, session: _Session) -> bool:
        """Send what the registry lacks; False when it takes no pieces."""
        while session.offset < self.content.size:
            length = min(self.piece, self.content.size - session.offset)
            headers = {**_STREAM, "Content-Range": f"{session.offset}-{session.offset + length - 1}"}
            answer = self._try(Request("PATCH", session.url, headers, self.content.part(session.offset, length)))
            if answer.status_code in _NO_PIECES and session.offset == 0:
                return False
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                raise _Interrupted(refusal(self.place, answer), lost=session.offset == 0)
            if answer.status_code not in {201, 202, 204}:
                raise refusal(self.place, answer)
            session.offset += length
            session.url = self.client.location(answer)
            self._remember(session)
        self._finish(session, None)
        return True

    def _finish(self, session: _Session, body: Body | None) -> None:
        answer = self._try(Request("PUT", _with_digest(session.url, self.digest), _STREAM, body))
        if answer.status_code == requests.codes.bad_request and session.resumed:
            # The registry said that it had bytes which were not ours.
            raise _Interrupted(refusal(self.place, answer), lost=True)
        if answer.status_code not in {200, 201, 202, 204}:
            raise refusal(self.place, answer)

    def _try(self, request: Request) -> requests.Response:
        try:
            answer = self.client.send(self.place, request)
        except requests.RequestException as error:
            wrong = unreachable(self.place, error)
            raise (wrong if isinstance(error, ASTRAY) else _Interrupted(wrong)) from error
        if answer.status_code in RETRIED:
            raise _Interrupted(refusal(self.place, answer), answer.headers.get("Retry-After"))
        return answer

    def _resumed(self, session: _Session) -> _Session | None:
        """Ask the registry how far it got; None when it gave the upload up."""
        answer = self.client.ask(self.place, Request("GET", session.url), accept=(200, 202, 204, 400, 404, 405, 416))
        if answer.status_code not in {200, 202, 204}:
            return None
        match = _RANGE.fullmatch(answer.headers.get("Range", ""))
        # "0-0" is said for nothing as well as for one byte; sending that byte again would be wrong, so nothing it is.
        offset = int(match[1]) + 1 if match and match[1] != "0" else 0
        if offset > self.content.size or (offset == 0 and session.offset > 0):
            return None
        url = self.client.location(answer) if "Location" in answer.headers else session.url
        return _Session(url, offset, resumed=True)


def _with_digest(url: str, digest: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("digest", digest)])))


def _changed() -> ImageError:
    return ImageError("upload", "content changed its size while it was sent", "Let what writes the file finish, then run again")
