"""OCI artifacts: plain files in a registry, as `oras push` stores them."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci.baking import BakeResult, finish
from gpuserve_images.oci.blobs import Blob, Meter, Progress, Transfer
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import EMPTY, MANIFEST, Json, encode, image_manifest
from gpuserve_images.oci.layers import UPLOADS, File
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference

# Reports, bills of materials and statements have kilobytes; some megabytes leave room for plots.
_DOCUMENT_BYTES = 64 << 20
_NONE: Mapping[str, str] = MappingProxyType({})
TITLE = "org.opencontainers.image.title"
"""Annotation that holds a file's name; `oras` has the same."""


def push_artifact(  # noqa: PLR0913 - keywords of one public call, each with its own default
    target: str,
    files: Mapping[str, File],
    *,
    artifact_type: str,
    annotations: Mapping[str, str] = _NONE,
    progress: Progress | None = None,
    uploads: int = UPLOADS,
) -> BakeResult:
    """Store files as an OCI artifact, one blob per file, each with its name as title and its own media type.

    Args:
        target: Where to, e.g. `localhost:5000/models/filetype:1-files`.
        files: Relative name -> file; the order in the artifact is by name.
        artifact_type: Media type that says what the artifact is, e.g. `application/vnd.gpuserve.model.v1`.
        annotations: Annotations of the manifest.
        progress: Called with bytes done and bytes in all; each byte counts when it is read and when it is sent.
        uploads: Blobs sent at once.

    Returns:
        The reference by digest, and the bytes sent and reused.

    Raises:
        RegistryError: The registry refused or is down.
        ImageError: There is no file, one is missing, a name is no relative path, or the reference is malformed.
    """
    place = Reference.parse(target)
    client = RegistryClient(place.host)
    meter = Meter(2 * sum(file.size() for file in files.values()), progress)
    blobs, manifest = artifact(files, artifact_type, annotations, meter)
    if place.tag and client.head_manifest(place) == manifest.digest:
        meter.finish()
        return BakeResult(place.pinned(manifest.digest), manifest.digest, 0, sum(blob.size for blob in blobs))
    return finish(Transfer(client, place, meter, uploads), blobs, manifest)


def artifact(
    files: Mapping[str, File], artifact_type: str, annotations: Mapping[str, str], meter: Meter, *, subject: Json | None = None
) -> tuple[list[Blob], Manifest]:
    """Return an artifact's blobs and manifest.

    Args:
        files: Relative name -> file.
        artifact_type: Media type that says what the artifact is.
        annotations: Annotations of the manifest.
        meter: Told of the bytes read.
        subject: Descriptor of the manifest that the artifact is about.

    Raises:
        ImageError: There is no file, one is missing, or a name is no relative path.
    """
    if not files:
        raise ImageError("artifact", "it has no files", "Give at least one file", value=artifact_type)
    for name in files:
        _require_relative(name)
    blobs = {name: Blob.of(files[name].media_type, files[name].chunks, meter) for name in sorted(files)}
    layers = [{**blob.descriptor, "annotations": {TITLE: name}} for name, blob in blobs.items()]
    # The distribution specification's empty descriptor: an artifact has no image configuration.
    empty = Blob.of(EMPTY, lambda: [b"{}"])
    document = {**image_manifest(empty.descriptor, layers, annotations), "artifactType": artifact_type}
    if subject:
        document["subject"] = subject
    return [*blobs.values(), empty], Manifest(MANIFEST, encode(document))


def read_artifact(reference: str) -> dict[str, bytes]:
    """Return the files of a small artifact, such as a document about an image, by name.

    Args:
        reference: Where it is.

    Raises:
        RegistryError: The registry lacks it, refused, is down, or sent other bytes than the digest says.
        ImageError: It is no artifact of files, or larger than a document.
    """
    place = Reference.parse(reference)
    client = RegistryClient(place.host)
    found = client.manifest(place)
    if found is None:
        fix = "Correct the reference"
        raise RegistryError(place.registry, place.repository, f"it has no artifact {place.selector}", fix, status=404)
    if sum(layer["size"] for layer in found.layers) > _DOCUMENT_BYTES:
        reason = f"it has more than {_DOCUMENT_BYTES} bytes, too many to read into memory"
        raise ImageError("artifact", reason, "Name a document, or use it as a source of a model", value=reference)
    return {title_of(reference, layer): client.blob(place, layer["digest"], layer["size"]) for layer in found.layers}


def title_of(reference: str, layer: Json) -> str:
    """Return the name of the file that a layer holds.

    Args:
        reference: The artifact.
        layer: Its descriptor.

    Raises:
        ImageError: It has none.
    """
    title = (layer.get("annotations") or {}).get(TITLE)
    if title is None:
        raise ImageError(
            "artifact", "its files have no names", "Name an artifact that gpuserve or oras pushed", value=reference
        )
    return title


def _require_relative(name: str) -> None:
    """Refuse a name that who reads the artifact back would have to write outside of its folder."""
    if PurePosixPath(name).is_absolute() or {"", ".", ".."} & set(name.split("/")) or "\\" in name or not name.isprintable():
        reason = "is no plain path below the folder of who reads the artifact"
        raise ImageError("artifact", reason, "Name the file relative to it, such as weights/model.bin", value=repr(name))
