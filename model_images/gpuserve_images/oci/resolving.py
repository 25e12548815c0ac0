"""Looking references up."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEXES, Json
from gpuserve_images.oci.reference import Reference


@dataclass(frozen=True)
class Resolved:
    """What a reference names.

    Attributes:
        reference: The same place, by digest.
        digest: `sha256:<hex>` of the manifest or index.
        media_type: Type of the manifest or index.
        annotations: Annotations of the manifest or index.
    """

    reference: str
    digest: str
    media_type: str
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Base:
    """A base image for one platform: where it is, its manifest and its configuration."""

    place: Reference
    digest: str
    manifest: Json
    config: Json


def resolve(reference: str) -> Resolved | None:
    """Look a reference up in its registry; one request.

    Returns:
        The digest and annotations, or None when the registry has no such image.

    Raises:
        RegistryError: The registry is down or refused.
        ImageError: The text is not a reference.
    """
    place = Reference.parse(reference)
    found = RegistryClient(place.host).manifest(place)
    if found is None:
        return None
    document = cast("Json", json.loads(found.content))
    return Resolved(place.pinned(found.digest), found.digest, found.media_type, document.get("annotations") or {})


def read_base(client: RegistryClient, place: Reference, platform: str) -> Base:
    """Read a base image's manifest and configuration; of an index, the entry for the platform.

    Raises:
        RegistryError: The base is not there, or not there for the platform.
    """
    found = client.manifest(place)
    if found is None:
        raise RegistryError(
            place.registry,
            place.repository,
            f"it has no image {place.selector}",
            "Build or push the base image first, or correct `base`",
            status=404,
        )
    document = cast("Json", json.loads(found.content))
    if found.media_type in INDEXES:
        entry = _entry(place, document, platform)
        return read_base(client, Reference(place.registry, place.repository, digest=entry["digest"]), platform)
    config = b"".join(client.blob_chunks(place, document["config"]["digest"]))
    return Base(place, found.digest, document, json.loads(config))


def _entry(place: Reference, index: Json, platform: str) -> Json:
    available: list[str] = []
    for entry in cast("list[Json]", index["manifests"]):
        about = entry.get("platform") or {}
        name = f"{about.get('os')}/{about.get('architecture')}"
        if name == platform:
            return entry
        available.append(name)
    raise RegistryError(
        place.registry,
        place.repository,
        f"image {place.selector} is not built for {platform}, only for {', '.join(sorted(set(available)))}",
        f"Choose a base image for {platform}",
    )
