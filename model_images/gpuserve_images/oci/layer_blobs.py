"""Layers as blobs: their digest as stored, and of the tar inside."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gpuserve_images.oci import memory
from gpuserve_images.oci.blobs import Blob, Meter
from gpuserve_images.oci.compression import SUFFIXES, Compression, compressed, identity
from gpuserve_images.oci.config import LAYER, digest_of, encode
from gpuserve_images.oci.layers import Layer, TarLayer

_VERSION = 2
"""Raise when the same files would make another tar: what is remembered of the old one counts no more."""


@dataclass(frozen=True)
class LayerBlob(Blob):
    """A layer that can be sent.

    Attributes:
        diff_id: Digest of the uncompressed tar, by which the image's configuration names the layer.
    """

    diff_id: str

    @classmethod
    def of_layer(cls, layer: Layer | TarLayer, compression: Compression, meter: Meter) -> "LayerBlob":
        """Find the digests out: from memory where no file changed since the last time, else by reading the files."""
        media_type = LAYER + SUFFIXES[compression]
        content = partial(_content, layer, compression)
        before = _key(layer, compression)
        if before and (known := memory.recall_layer(before)):
            digest, size, diff_id = known
            meter.add(layer.source_bytes())
            return cls(media_type, digest, size, content, diff_id)
        whole, inner = _Hash(), _Hash()
        for chunk in compressed(inner.pass_on(layer.chunks(), meter), compression):
            whole.add(chunk)
        if before and before == _key(layer, compression):
            memory.remember_layer(before, whole.digest, whole.size, inner.digest)
        return cls(media_type, whole.digest, whole.size, content, inner.digest)


def _content(layer: Layer | TarLayer, compression: Compression) -> Iterator[bytes]:
    return compressed(layer.chunks(), compression)


def _key(layer: Layer | TarLayer, compression: Compression) -> str | None:
    fingerprint = layer.fingerprint()
    return (
        None
        if fingerprint is None
        else digest_of(
            encode({"of": type(layer).__name__, "version": _VERSION, "as": identity(compression), "from": fingerprint})
        )
    )


class _Hash:
    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"

    def add(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self.size += len(chunk)

    def pass_on(self, chunks: Iterator[bytes], meter: Meter) -> Iterator[bytes]:
        for chunk in chunks:
            self.add(chunk)
            meter.add(len(chunk))
            yield chunk
