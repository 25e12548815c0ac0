"""Baking: layers of files onto a base image, straight to the registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import memory
from gpuserve_images.oci.blobs import Blob, Meter, Progress, Transfer, side_by_side
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.compression import Compression, require_compression
from gpuserve_images.oci.config import (
    CONFIG,
    INDEX,
    MANIFEST,
    ImageConfig,
    Json,
    derive_config,
    descriptor,
    encode,
    image_index,
    image_manifest,
    oci_layers,
)
from gpuserve_images.oci.layer_blobs import LayerBlob
from gpuserve_images.oci.layers import UPLOADS, Layer, TarLayer
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.merged import refuse_through_links
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.resolving import Base, Bases, read_bases, scratch

_NONE: Mapping[str, str] = MappingProxyType({})
_KEEP = ImageConfig()
_DEFAULT_PLATFORM = "linux/amd64"
_BAD_REQUEST = 400


@dataclass(frozen=True)
class BakeResult:
    """What is in the registry now, and what it cost.

    Attributes:
        reference: `registry/repository@sha256:...`.
        digest: Digest of the manifest, or of the index where there are several platforms.
        uploaded_bytes: Bytes sent; 0 when nothing changed.
        reused_bytes: Bytes of the image that did not have to be sent.
    """

    reference: str
    digest: str
    uploaded_bytes: int
    reused_bytes: int


@dataclass(frozen=True)
class _Image:
    """One platform's image: what to send, in the order in which it becomes valid."""

    base: Base
    config: Blob
    manifest: Manifest
    layers: tuple[Json, ...]

    def size(self) -> int:
        return sum(int(layer["size"]) for layer in self.layers) + self.config.size + len(self.manifest.content)


def bake(  # noqa: PLR0913 - keywords of one public call, each with its own default
    target: str,
    layers: Sequence[Layer | TarLayer],
    *,
    base: str | None = None,
    config: ImageConfig = _KEEP,
    annotations: Mapping[str, str] = _NONE,
    progress: Progress | None = None,
    platform: str | Sequence[str] = (),
    compression: Compression = "none",
    uploads: int = UPLOADS,
) -> BakeResult:
    """Put layers on a base image and store the result in a registry.

    The same inputs give the same digest on any machine and day. Files are read twice (digest, then sending) and never held in
    memory; files that did not change since the last bake are not read for their digest. Blobs that the registry has are not sent,
    and base layers of the same registry are mounted, not copied.

    Args:
        target: Where to, e.g. `localhost:5000/models/filetype:1`. Without a tag the image is stored by digest alone. Registries on
            this machine are spoken to in plain HTTP.
        layers: New layers, lowest first. One layer per independent part: a change then costs only its own layer. Files go into the
            base's directories. Where a path leads through a link of the base, some engines follow it and others hide it, so
            write where it leads; what is a link in most bases (`/lib`) is refused.
        base: Image to build on, or None for an image of these layers only.
        config: How the image's container starts; by default as the base's does.
        annotations: Annotations of the manifest. Where there is a base its name and digest are added
            (`org.opencontainers.image.base.name` and `.digest`).
        progress: Called with bytes done and bytes in all; each byte of a new layer counts when it is read and when it is sent. It is
            called by several threads, one at a time.
        platform: One platform such as `linux/arm64` gives a plain image. Several give an index of them. A base for one platform
            is refused for another. Default: an index when the
            base is one, with all its platforms; else a plain image (`linux/amd64` without a base). A base's attestations are left
            out: they speak of the base's images, not of these.
        compression: Compression of the new layers. Default none; see `compression` for when another pays.
        uploads: Blobs sent at once.

    Returns:
        The reference by digest, and the bytes sent and reused.

    Raises:
        RegistryError: A registry refused, is down, or lacks the base.
        ImageError: A file is missing, a path, platform or reference is malformed, there is no such compression, or a path goes through
            what is a link in most bases.
    """
    require_compression(compression)
    if base:
        refuse_through_links(layers)
    place = Reference.parse(target)
    client = RegistryClient(place.host)
    source_place = Reference.parse(base) if base else None
    source_client = client if source_place is None or source_place.host == place.host else RegistryClient(source_place.host)
    wanted = [platform] if isinstance(platform, str) else list(platform)
    found = read_bases(source_client, source_place, wanted) if source_place else None

    # Twice the files' bytes: once for the digest, once for the wire. And a base's bytes once.
    base_bytes = {
        layer["digest"]: int(layer["size"]) for one in (found.images if found else ()) for layer in one.manifest["layers"]
    }
    meter = Meter(2 * sum(layer.source_bytes() for layer in layers) + sum(base_bytes.values()), progress)
    blobs = side_by_side([partial(LayerBlob.of_layer, layer, compression, meter) for layer in layers], meter, uploads)
    as_index = not isinstance(platform, str) and (found.indexed if found else len(wanted) > 1)
    notes = {**_base_notes(base, found, as_index=as_index), **annotations}
    bases = found.images if found else [scratch(name) for name in wanted or [_DEFAULT_PLATFORM]]
    images = [_image(one, config, blobs, layers, {} if as_index else notes) for one in bases]
    top = _index(images, notes) if as_index else images[0].manifest

    transfer = Transfer(client, place, meter, uploads)
    if (
        client.head_manifest(place if place.tag else Reference(place.registry, place.repository, digest=top.digest))
        == top.digest
    ):
        meter.finish()
        return _result(place, top, 0, sum(image.size() for image in images))
    try:
        return _send(transfer, images, blobs, top, source_client)
    except RegistryError as error:
        if error.status == _BAD_REQUEST:
            # What was remembered of a file may be wrong: read it again the next time.
            for blob in blobs:
                memory.forget_layer(blob.digest)
        raise


def finish(transfer: Transfer, blobs: Sequence[Blob], *manifests: Manifest) -> BakeResult:
    """Send blobs, then the manifests that make them an image, the last under the tag: nobody ever sees half of one."""
    transfer.push_all(blobs)
    place = transfer.place
    for manifest in manifests[:-1]:
        transfer.client.put_manifest(Reference(place.registry, place.repository), manifest)
    transfer.client.put_manifest(place, manifests[-1])
    transfer.uploaded_bytes += sum(len(manifest.content) for manifest in manifests)
    transfer.meter.finish()
    return _result(place, manifests[-1], transfer.uploaded_bytes, transfer.reused_bytes)


def _send(
    transfer: Transfer, images: Sequence[_Image], blobs: Sequence[Blob], top: Manifest, source_client: RegistryClient
) -> BakeResult:
    for image in images:
        transfer.take_over(oci_layers(image.base.manifest), source_client, image.base.place)
    manifests = [image.manifest for image in images if image.manifest is not top]
    return finish(transfer, [*blobs, *(image.config for image in images)], *manifests, top)


def _image(
    base: Base, config: ImageConfig, blobs: Sequence[LayerBlob], layers: Sequence[Layer | TarLayer], notes: Mapping[str, str]
) -> _Image:
    changed = derive_config(base.config, config, [blob.diff_id for blob in blobs], [layer.comment for layer in layers])
    content = encode(changed)
    config_blob = Blob.of(CONFIG, lambda: [content])
    descriptors = [*oci_layers(base.manifest), *(blob.descriptor for blob in blobs)]
    manifest = Manifest(MANIFEST, encode(image_manifest(config_blob.descriptor, descriptors, notes)))
    return _Image(base, config_blob, manifest, tuple(descriptors))


def _index(images: Sequence[_Image], notes: Mapping[str, str]) -> Manifest:
    entries = [
        {**descriptor(MANIFEST, image.manifest.digest, len(image.manifest.content)), "platform": image.base.platform}
        for image in images
    ]
    return Manifest(INDEX, encode(image_index(entries, notes)))


def _base_notes(base: str | None, found: Bases | None, *, as_index: bool) -> Json:
    if base is None or found is None:
        return {}
    digest = found.digest if as_index else found.images[0].digest
    return {"org.opencontainers.image.base.name": base, "org.opencontainers.image.base.digest": digest}


def _result(place: Reference, manifest: Manifest, uploaded: int, reused: int) -> BakeResult:
    return BakeResult(place.pinned(manifest.digest), manifest.digest, uploaded, reused)
