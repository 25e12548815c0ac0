"""Looking references up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import INDEXES, Json, scratch_config
from gpuserve_images.oci.manifests import Manifest
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
    document = found.document
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


def tag_image(reference: str, tag: str) -> bool:
    """Give an image of the same repository another name.

    Args:
        reference: The image.
        tag: The new name; without a tag nothing is done.

    Returns:
        Whether it names another image now than before.

    Raises:
        RegistryError: The registry lacks the image, refused or is down.
    """
    place, named = Reference.parse(reference), Reference.parse(tag)
    if not named.tag:
        return False
    client = RegistryClient(place.host)
    found = _require(client, place)
    if client.head_manifest(Reference(named.registry, named.repository, named.tag)) == found.digest:
        return False
    client.put_manifest(named, found)
    return True


def read_bases(client: RegistryClient, place: Reference, platforms: Sequence[str]) -> Bases:
    """Read a base's manifests and configurations.

    Args:
        client: Client of its registry.
        place: The base.
        platforms: Platforms to take from an index; all of them when empty. An image that is no index must be for each of them.

    Raises:
        RegistryError: The base is not there, not there for a platform, or no image.
    """
    found = _require(client, place)
    document = found.document
    if found.media_type not in INDEXES:
        image = _base(client, place, found, {})
        for platform in platforms:
            if not _is_for(image.platform, platform):
                raise _not_for(place, platform, [image.platform])
        return Bases(found.digest, indexed=False, images=(image,))
    entries = [_entry(place, document, platform) for platform in platforms] if platforms else _images(document)
    if not entries:
        raise _no_image(place, "an index without images", "Name an image, or push the index again")
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
    if found.media_type in INDEXES:
        raise _no_image(place, "an index within an index", "Name the inner index, or one of its images")
    document = found.document
    try:
        config = cast("Json", json.loads(client.blob(place, document["config"]["digest"], document["config"].get("size"))))
        inside = len(config["rootfs"]["diff_ids"])
    except (KeyError, TypeError, ValueError):
        kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType") or found.media_type
        raise _no_image(place, f"an artifact of type {kind}", "Name an image") from None
    if len(found.layers) != inside or not all("mediaType" in layer for layer in found.layers):
        what = f"a manifest of {len(found.layers)} layers whose configuration tells of {inside}, or that have no media type"
        raise _no_image(place, what, "Push it again, with a tool that keeps to the OCI image specification")
    return Base(place, found.digest, document, config, platform or _platform_of(config))


def _no_image(place: Reference, what: str, fix: str) -> RegistryError:
    return RegistryError(place.registry, place.repository, f"{place.selector} is no image to build on, but {what}", fix)


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
    entries = cast("list[Json]", index.get("manifests") or [])
    return [entry for entry in entries if _name(entry.get("platform") or {}) != "unknown/unknown"]


def _name(about: Json) -> str:
    variant = f"/{about['variant']}" if about.get("variant") else ""
    return f"{about.get('os')}/{about.get('architecture')}{variant}"


def _entry(place: Reference, index: Json, platform: str) -> Json:
    entries = _images(index)
    for entry in entries:
        if _is_for(entry.get("platform") or {}, platform):
            return entry
    raise _not_for(place, platform, [entry.get("platform") or {} for entry in entries])


def _is_for(about: Json, platform: str) -> bool:
    """Tell whether a platform is the one asked for; what says `linux/arm64` and what says `linux/arm64/v8` are the same."""
    whole, short = _name(about), f"{about.get('os')}/{about.get('architecture')}"
    return platform in {whole, short} or (whole == short == "linux/arm64" and platform == "linux/arm64/v8")


def _not_for(place: Reference, platform: str, there: Sequence[Json]) -> RegistryError:
    names = ", ".join(sorted({_name(about) if about else "a platform that it does not name" for about in there})) or "none"
    reason = f"image {place.selector} is not built for {platform}, only for {names}"
    return RegistryError(place.registry, place.repository, reason, f"Choose a base image for {platform}")
