"""Documents about an image, kept beside it in the registry: reports, bills of materials, provenance.

Each is an artifact whose manifest names the image as its `subject` (OCI image specification 1.1). A registry with the referrers endpoint
finds them by that; for one without it (Docker's registry, releases 2 and 3) an index under the tag `sha256-<digest of the image>`
lists them, as the distribution specification prescribes ("Referrers Tag Schema").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import memory
from gpuserve_images.oci.artifact import artifact
from gpuserve_images.oci.baking import BakeResult, finish
from gpuserve_images.oci.blobs import Meter, Transfer
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEX, MANIFEST, Json, descriptor, encode, image_index
from gpuserve_images.oci.layers import File
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Referrer:
    """One document about an image.

    Attributes:
        reference: Where it is, by digest; `pull` fetches its files.
        digest: Digest of its manifest.
        artifact_type: What it is.
        annotations: Annotations of its manifest.
    """

    reference: str
    digest: str
    artifact_type: str
    annotations: Mapping[str, str]


def attach(
    image: str,
    files: Mapping[str, File],
    *,
    artifact_type: str,
    annotations: Mapping[str, str] = _NONE,
    replace: bool = False,
) -> BakeResult:
    """Store files as a document about an image, without changing the image or its digest.

    Args:
        image: The image, best by digest; a tag means what it names now.
        files: Relative name -> file.
        artifact_type: Media type that says what the document is.
        annotations: Annotations of the document, which `referrers` lists.
        replace: Whether it takes the place of other documents of its type. Only a list kept under a tag forgets them; where the
            registry keeps the list itself, they stay, and the latest is not told from the others.

    Returns:
        The document's reference by digest, and the bytes sent and reused.

    Raises:
        RegistryError: The registry lacks the image, refused or is down.
        ImageError: There is no file, one is missing, or the reference is malformed.
    """
    place = Reference.parse(image)
    client = RegistryClient(place.host)
    subject = client.manifest(place)
    if subject is None:
        fix = "Push the image first, or correct the reference"
        raise RegistryError(place.registry, place.repository, f"it has no image {place.selector} to attach to", fix, status=404)
    here = Reference(place.registry, place.repository)
    meter = Meter(2 * sum(file.size() for file in files.values()))
    about = descriptor(subject.media_type, subject.digest, len(subject.content))
    blobs, manifest = artifact(files, artifact_type, annotations, meter, subject=about)
    with memory.only_one(f"{here}/{subject.digest}"):
        known = client.referrers(here, subject.digest)
        result = finish(Transfer(client, here, meter), blobs, manifest)
        # A registry that has no such endpoint may still answer with `OCI-Subject` (Amazon's does), so the endpoint decides.
        if known is None:
            _list(client, here, subject, manifest, replace=replace)
    return result


def referrers(image: str, *, artifact_type: str | None = None) -> list[Referrer]:
    """List the documents about an image.

    Args:
        image: The image, best by digest.
        artifact_type: Only documents of this type. Default: all.

    Raises:
        RegistryError: The registry lacks the image, refused or is down.
        ImageError: The reference is malformed.
    """
    place = Reference.parse(image)
    client = RegistryClient(place.host)
    digest = place.digest or client.head_manifest(place)
    if digest is None:
        fix = "Push the image first, or correct the reference"
        raise RegistryError(place.registry, place.repository, f"it has no image {place.selector}", fix, status=404)
    here = Reference(place.registry, place.repository)
    found = client.referrers(here, digest)
    # Documents listed under the tag before the registry got its endpoint are still there.
    lists = [found, client.manifest(_tagged(here, digest))]
    entries = {entry["digest"]: entry for manifest in lists if manifest for entry in _entries(manifest)}
    listed = [
        Referrer(here.pinned(name), name, entry.get("artifactType", ""), entry.get("annotations") or {})
        for name, entry in entries.items()
    ]
    return [one for one in listed if artifact_type in {None, one.artifact_type}]


def _list(client: RegistryClient, here: Reference, subject: Manifest, manifest: Manifest, *, replace: bool) -> None:
    """Add a document to the index under the subject's tag."""
    place = _tagged(here, subject.digest)
    found = client.manifest(place)
    document = manifest.document
    kind = document["artifactType"]
    entry = {**descriptor(MANIFEST, manifest.digest, len(manifest.content)), "artifactType": kind}
    if notes := document.get("annotations"):
        entry["annotations"] = notes
    before = _entries(found) if found else []
    kept = [one for one in before if one["digest"] != manifest.digest and not (replace and one.get("artifactType") == kind)]
    index = Manifest(INDEX, encode(image_index([*kept, entry], {})))
    if found is None or found.digest != index.digest:
        client.put_manifest(place, index)


def _entries(manifest: Manifest) -> list[Json]:
    return manifest.document.get("manifests") or []


def _tagged(here: Reference, digest: str) -> Reference:
    return Reference(here.registry, here.repository, digest.replace(":", "-"))
