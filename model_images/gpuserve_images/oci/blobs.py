"""Getting blobs into a repository with as few bytes on the wire as possible, several at once."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from gpuserve_images.errors import ImageError
from gpuserve_images.oci import memory
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import Json, descriptor
from gpuserve_images.oci.downloads import steadily
from gpuserve_images.oci.layers import UPLOADS
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.uploads import Content, Upload

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Blob:
    """Content with a known digest that can be produced again for sending.

    Attributes:
        media_type: Type of the content.
        digest: Digest of the content.
        size: Bytes of the content.
        chunks: Yields the content from its beginning.
    """

    media_type: str
    digest: str
    size: int
    chunks: Callable[[], Iterable[bytes]]

    @classmethod
    def of(cls, media_type: str, chunks: Callable[[], Iterable[bytes]], meter: "Meter | None" = None) -> "Blob":
        """Read the content once for its digest and size."""
        sha256 = hashlib.sha256()
        size = 0
        for chunk in chunks():
            sha256.update(chunk)
            size += len(chunk)
            if meter:
                meter.add(len(chunk))
        return cls(media_type, f"sha256:{sha256.hexdigest()}", size, chunks)

    @property
    def descriptor(self) -> Json:
        """OCI descriptor of the content."""
        return descriptor(self.media_type, self.digest, self.size)


class _Stopped(Exception):  # noqa: N818 - not an error of its own
    """Another transfer failed, so this one need not go on."""


@dataclass
class Meter:
    """Counts bytes of work for a progress callback; a byte counts when it is read for its digest and when it is sent or not needed."""

    total: int
    report: Progress | None = None
    done: int = field(default=0)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def add(self, count: int) -> None:
        """Count work as done and report it; never reports more than the total."""
        if self._stopped.is_set():
            raise _Stopped
        with self._lock:
            self.done = min(self.done + count, self.total)
            if self.report:
                self.report(self.done, self.total)

    def finish(self) -> None:
        """Report all work as done."""
        self.add(self.total - self.done)

    def stop(self) -> None:
        """End all work that counts here."""
        self._stopped.set()


T = TypeVar("T")


def side_by_side(work: Sequence[Callable[[], T]], meter: Meter, limit: int) -> list[T]:
    """Do several pieces of work at once; the first error ends them all.

    Args:
        work: What to do; the results come in the same order.
        meter: Meter that all of it counts on.
        limit: How many at once.
    """
    if limit < 1:
        raise ImageError(
            "uploads", "nothing is ever sent with less than one upload at once", "Give 1 or more", value=str(limit)
        )
    with ThreadPoolExecutor(max_workers=limit, thread_name_prefix="oci") as pool:
        futures: list[Future[T]] = [pool.submit(piece) for piece in work]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done() and future.exception():
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            meter.stop()
            for future in futures:
                future.cancel()
            raise


@dataclass
class Transfer:
    """Blobs on their way into one repository, and what they cost.

    Attributes:
        client: Client of the target registry.
        place: Target repository.
        uploads: How many blobs are sent at once.
        uploaded_bytes: Bytes sent.
        reused_bytes: Bytes that the registry had, or mounted from another of its repositories.
    """

    client: RegistryClient
    place: Reference
    meter: Meter
    uploads: int = UPLOADS
    uploaded_bytes: int = 0
    reused_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def push(self, blob: Blob) -> None:
        """Send a blob unless the repository has it."""
        if self.client.has_blob(self.place, blob.digest):
            self._reuse(blob.size)
            return

        def chunks() -> Iterator[bytes]:
            return iter(blob.chunks())

        self._send(blob.digest, Content(blob.size, chunks, self.meter.add))

    def push_all(self, blobs: Iterable[Blob]) -> None:
        """Send several blobs at once, the largest first so that none is left to run alone; equal ones once."""
        different = {blob.digest: blob for blob in blobs}
        ordered = sorted(different.values(), key=lambda blob: (-blob.size, blob.digest))
        side_by_side([partial(self.push, blob) for blob in ordered], self.meter, self.uploads)

    def take_over(self, layers: Iterable[Json], source_client: RegistryClient, source: Reference) -> None:
        """Bring base layers into the repository: they are there, or are mounted, or stream through without touching the disk."""
        different = {str(layer["digest"]): int(layer["size"]) for layer in layers}
        work = [partial(self._take, digest, size, source_client, source) for digest, size in different.items()]
        side_by_side(work, self.meter, self.uploads)

    def _take(self, digest: str, size: int, source_client: RegistryClient, source: Reference) -> None:
        if source.registry == self.place.registry and (
            source.repository == self.place.repository or self._there(digest, source.repository)
        ):
            self._reuse(size)
            return
        # Two bakes at once would both send it: the second waits, and finds it mounted from where the first put it.
        with memory.only_one(f"{self.place.registry}/{digest}"):
            if self._there(digest, *memory.repositories(self.place.registry, digest)):
                self._reuse(size)
            else:
                self._stream(digest, size, source_client, source)
            memory.remember_repository(self.place.registry, digest, self.place.repository)

    def _there(self, digest: str, *repositories: str) -> bool:
        if self.client.has_blob(self.place, digest):
            return True
        return any(self.client.mount_blob(self.place, digest, name) for name in repositories if name != self.place.repository)

    def _stream(self, digest: str, size: int, source_client: RegistryClient, source: Reference) -> None:
        def chunks(start: int = 0) -> Iterator[bytes]:
            return steadily(source_client, source, digest, size, start)

        self._send(digest, Content(size, chunks, self.meter.add, seek=chunks))

    def _send(self, digest: str, content: Content) -> None:
        upload = Upload(self.client, self.place, digest, content)
        upload.run()
        with self._lock:
            self.uploaded_bytes += content.size - upload.kept
            self.reused_bytes += upload.kept

    def _reuse(self, size: int) -> None:
        with self._lock:
            self.reused_bytes += size
        self.meter.add(size)
