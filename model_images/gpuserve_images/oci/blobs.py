"""Getting blobs into a repository with as few bytes on the wire as possible."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gpuserve_images.oci.client import Body, RegistryClient
from gpuserve_images.oci.config import Json, descriptor
from gpuserve_images.oci.reference import Reference

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Blob:
    """Content with a known digest that can be produced again for sending."""

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


@dataclass
class Meter:
    """Counts bytes of work for a progress callback; a byte counts when it is read for its digest and when it is sent or not needed."""

    total: int
    report: Progress | None = None
    done: int = field(default=0)

    def add(self, count: int) -> None:
        """Count work as done and report it; never reports more than the total."""
        self.done = min(self.done + count, self.total)
        if self.report:
            self.report(self.done, self.total)

    def finish(self) -> None:
        """Report all work as done."""
        self.add(self.total - self.done)


@dataclass
class Transfer:
    """Blobs on their way into one repository, and what they cost.

    Attributes:
        client: Client of the target registry.
        place: Target repository.
        uploaded_bytes: Bytes sent.
        reused_bytes: Bytes that the registry had, or mounted from another of its repositories.
    """

    client: RegistryClient
    place: Reference
    meter: Meter
    uploaded_bytes: int = 0
    reused_bytes: int = 0

    def push(self, blob: Blob) -> None:
        """Send a blob unless the repository has it."""
        if self.client.has_blob(self.place, blob.digest):
            self.reused_bytes += blob.size
            self.meter.add(blob.size)
            return

        def counted() -> Iterator[bytes]:
            for chunk in blob.chunks():
                yield chunk
                self.meter.add(len(chunk))

        self.client.upload_stream(self.place, blob.digest, Body(blob.size, counted))
        self.uploaded_bytes += blob.size

    def take_over(self, layer: Json, source_client: RegistryClient, source: Reference) -> None:
        """Bring a base layer into the repository: it is there, or is mounted, or streams through without touching the disk."""
        digest, size = str(layer["digest"]), int(layer["size"])
        same_registry = source.registry == self.place.registry
        if (
            (same_registry and source.repository == self.place.repository)
            or self.client.has_blob(self.place, digest)
            or (same_registry and self.client.mount_blob(self.place, digest, source.repository))
        ):
            self.reused_bytes += size
        else:
            body = Body(size, lambda: source_client.blob_chunks(source, digest))
            self.client.upload_stream(self.place, digest, body)
            self.uploaded_bytes += size
