"""Baking: layers of files onto a base image, straight to the registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gpuserve_images.oci.blobs import Blob, Meter, Progress, Transfer
from gpuserve_images.oci.client import Manifest, RegistryClient
from gpuserve_images.oci.config import (
    CONFIG,
    LAYER,
    MANIFEST,
    ImageConfig,
    Json,
    derive_config,
    encode,
    image_manifest,
    oci_layers,
    scratch_config,
)
from gpuserve_images.oci.layers import Layer, TarLayer
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.resolving import Base, read_base

_NONE: Mapping[str, str] = MappingProxyType({})
_KEEP = ImageConfig()


@dataclass(frozen=True)
class BakeResult:
    """What is in the registry now, and what it cost.

    Attributes:
        reference: `registry/repository@sha256:...`.
        digest: Digest of the manifest.
        uploaded_bytes: Bytes sent; 0 when nothing changed.
        reused_bytes: Bytes of the image that did not have to be sent.
    """

    reference: str
    digest: str
    uploaded_bytes: int
    reused_bytes: int


def bake(  # noqa: PLR0913 - keywords of one public call, each with its own default
    target: str,
    layers: Sequence[Layer | TarLayer],
    *,
    base: str | None = None,
    config: ImageConfig = _KEEP,
    annotations: Mapping[str, str] = _NONE,
    progress: Progress | None = None,
    platform: str = "linux/amd64",
) -> BakeResult:
    """Put layers on a base image and store the result in a registry.

    The same inputs give the same digest on any machine and day. Files are read twice (digest, then sending) and never held in
    memory; blobs that the registry has are not sent, and base layers of the same registry are mounted, not copied.

    Args:
        target: Where to, e.g. `localhost:5000/models/filetype:1`. Without a tag the image is stored by digest alone. Registries on
            this machine are spoken to in plain HTTP.
        layers: New layers, lowest first. One layer per independent part: a change then costs only its own layer.
        base: Image to build on, or None for an image of these layers only.
        config: How the image's container starts; by default as the base's does.
        annotations: Annotations of the manifest. Where there is a base its name and digest are added
            (`org.opencontainers.image.base.name` and `.digest`).
        progress: Called with bytes done and bytes in all; each byte of a new layer counts when it is read and when it is sent.
        platform: Platform taken from a multi-platform base, and given to an image without a base.

    Returns:
        The reference by digest, and the bytes sent and reused.

    Raises:
        RegistryError: A registry refused, is down, or lacks the base.
        ImageError: A file is missing, or a path or reference is malformed.
    """
    place = Reference.parse(target)
    client = RegistryClient(place.host)
    source_place = Reference.parse(base) if base else None
    source_client = client if source_place is None or source_place.host == place.host else RegistryClient(source_place.host)
    source = read_base(source_client, source_place, platform) if source_place else None

    # Twice the files' bytes: once for the digest, once for the wire.
    meter = Meter(2 * sum(layer.source_bytes() for layer in layers), progress)
    blobs = [Blob.of(LAYER, layer.chunks, meter) for layer in layers]
    document = derive_config(
        source.config if source else scratch_config(platform),
        config,
        [blob.digest for blob in blobs],
        [layer.comment for layer in layers],
    )
    config_blob = _whole(CONFIG, encode(document))
    base_layers = oci_layers(source.manifest) if source else []
    descriptors = [*base_layers, *(blob.descriptor for blob in blobs)]
    notes = {**_base_notes(base, source), **annotations}
    manifest = Manifest(MANIFEST, encode(image_manifest(config_blob.descriptor, descriptors, notes)))

    transfer = Transfer(client, place, meter)
    if (
        client.head_manifest(place if place.tag else Reference(place.registry, place.repository, digest=manifest.digest))
        == manifest.digest
    ):
        meter.finish()
        return _result(
            place, manifest, 0, sum(int(layer["size"]) for layer in descriptors) + config_blob.size + len(manifest.content)
        )
    if source:
        for layer in base_layers:
            transfer.take_over(layer, source_client, source.place)
    return finish(transfer, [*blobs, config_blob], manifest)


def finish(transfer: Transfer, blobs: Sequence[Blob], manifest: Manifest) -> BakeResult:
    """Send blobs, then the manifest that makes them an image: nobody ever sees half of one."""
    for blob in blobs:
        transfer.push(blob)
    transfer.client.put_manifest(transfer.place, manifest)
    transfer.uploaded_bytes += len(manifest.content)
    transfer.meter.finish()
    return _result(transfer.place, manifest, transfer.uploaded_bytes, transfer.reused_bytes)


def _whole(media_type: str, content: bytes) -> Blob:
    return Blob.of(media_type, lambda: [content])


def _base_notes(base: str | None, source: Base | None) -> Json:
    if base is None or source is None:
        return {}
    return {"org.opencontainers.image.base.name": base, "org.opencontainers.image.base.digest": source.digest}


def _result(place: Reference, manifest: Manifest, uploaded: int, reused: int) -> BakeResult:
    return BakeResult(place.pinned(manifest.digest), manifest.digest, uploaded, reused)
