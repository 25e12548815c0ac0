"""Looking references up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.client import Manifest, RegistryClient
from gpuserve_images.oci.config import INDEXES, Json, scratch_config
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
    platform: Json


@dataclass(frozen=True)
class Bases:
    """What a base reference names: one image, or an index of several.

    Attributes:
        digest: Digest of what the reference names.
        indexed: Whether that is an index.
        images: The image of each platform asked for.
    """

    digest: str
    indexed: bool
    images: tuple[Base, ...]


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


def environment(reference: str, platforms: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment variables of an image's containers; of several platforms the first one's count.

    Args:
        reference: The image.
        platforms: Platforms to look at. Default: those of its index.

    Raises:
        RegistryError: The registry lacks the image, refused or is down.
        ImageError: The text is not a reference.
    """
    place = Reference.parse(reference)
    images = read_bases(RegistryClient(place.host), place, platforms[:1]).images
    said = (images[0].config.get("config") or {}).get("Env") or [] if images else []
    return dict(entry.split("=", 1) for entry in said if "=" in entry)


def tag_image(reference: str, tag: str) -> None:
    """Give an image of the same repository another name.

    Args:
        reference: The image.
        tag: The new name, with a tag.

    Raises:
        RegistryError: The registry lacks the image, refused or is down.
    """
    place, named = Reference.parse(reference), Reference.parse(tag)
    client = RegistryClient(place.host)
    client.put_manifest(named, _require(client, place))


def read_bases(client: RegistryClient, place: Reference, platforms: Sequence[str]) -> Bases:
    """Read a base's manifests and configurations.

    Args:
        client: Client of its registry.
        place: The base.
        platforms: Platforms to take from an index; all of them when empty. An image that is no index is taken as it is.

    Raises:
        RegistryError: The base is not there, or not there for a platform.
    """
    found = _require(client, place)
    document = cast("Json", json.loads(found.content))
    if found.media_type not in INDEXES:
        return Bases(found.digest, indexed=False, images=(_base(client, place, found, {}),))
    entries = [_entry(place, document, platform) for platform in platforms] if platforms else _images(document)
    images = [_of_index(client, place, entry) for entry in entries]
    return Bases(found.digest, indexed=True, images=tuple(images))


def scratch(platform: str) -> Base:
    """Return the base of an image that has none, for a platform such as `linux/amd64`."""
    config = scratch_config(platform)
    return Base(Reference("", ""), "", {"layers": []}, config, _platform_of(config))


def _of_index(client: RegistryClient, place: Reference, entry: Json) -> Base:
    pinned = Reference(place.registry, place.repository, digest=entry["digest"])
    return _base(client, pinned, _require(client, pinned), entry.get("platform") or {})


def _base(client: RegistryClient, place: Reference, found: Manifest, platform: Json) -> Base:
    document = cast("Json", json.loads(found.content))
    config = cast("Json", json.loads(client.blob(place, document["config"]["digest"])))
    return Base(place, found.digest, document, config, platform or _platform_of(config))


def _require(client: RegistryClient, place: Reference) -> Manifest:
    found = client.manifest(place)
    if found is None:
        raise RegistryError(
            place.registry,
            place.repository,
            f"it has no image {place.selector}",
            "Build or push the image first, or correct its name",
            status=404,
        )
    return found


def _platform_of(config: Json) -> Json:
    names = ("os", "os.version", "architecture", "variant")
    return {name: config[name] for name in names if config.get(name)}


def _images(index: Json) -> list[Json]:
    """Return the images of an index; attestations have the platform unknown/unknown (docs.docker.com, "Attestation storage")."""
    return [entry for entry in cast("list[Json]", index["manifests"]) if _name(entry) != "unknown/unknown"]


def _name(entry: Json) -> str:
    about = entry.get("platform") or {}
    variant = f"/{about['variant']}" if about.get("variant") else ""
    return f"{about.get('os')}/{about.get('architecture')}{variant}"


def _entry(place: Reference, index: Json, platform: str) -> Json:
    entries = _images(index)
    # `linux/arm64` is what people call the index's `linux/arm64/v8`.
    for entry in entries:
        if platform in {_name(entry), "/".join(_name(entry).split("/")[:2])}:
            return entry
    raise RegistryError(
        place.registry,
        place.repository,
        f"image {place.selector} is not built for {platform}, only for {', '.join(sorted(set(map(_name, entries))))}",
        f"Choose a base image for {platform}",
    )
