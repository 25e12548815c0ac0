"""Manifests, and what one must be like before anybody reads it: who wrote it is not known."""

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from gpuserve_images.errors import RegistryError, shortened
from gpuserve_images.oci.config import Json, digest_of
from gpuserve_images.oci.reference import Reference

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLATFORM = ("os", "architecture", "variant")
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry holds it: exact bytes, so that its digest can be told."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """Digest of the exact bytes."""
        return digest_of(self.content)

    @property
    def document(self) -> Json:
        """What the bytes say."""
        return cast("Json", json.loads(self.content))

    @property
    def layers(self) -> list[Json]:
        """The descriptors of its layers; none of an index."""
        return self.document.get("layers") or []


def require_sound(place: Reference, document: Json) -> Json:
    """Return a manifest, or an index, all of whose descriptors say what they describe.

    Args:
        place: Where it was found.
        document: What was found there.

    Raises:
        RegistryError: A layer, a configuration or an image of it has no digest or size, or one of another type.
    """
    for name in ("layers", "manifests"):
        entries: Any = document.get(name)
        if entries is None:
            continue
        if not isinstance(entries, list):
            raise _broken(place, name, entries, "is no list")
        for number, entry in enumerate(cast("list[Any]", entries)):
            _require_descriptor(place, f"{name}[{number}]", entry)
    if document.get("config") is not None:
        _require_descriptor(place, "config", document["config"])
    _require_texts(place, "annotations", document.get("annotations"))
    return document


def _require_descriptor(place: Reference, where: str, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise _broken(place, where, entry, "is no descriptor")
    found = cast("Json", entry)
    digest, size = found.get("digest"), found.get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _broken(place, f"{where}.digest", digest, "is no SHA-256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _broken(place, f"{where}.size", size, "is no number of bytes")
    if not isinstance(found.get("mediaType", ""), str):
        raise _broken(place, f"{where}.mediaType", found["mediaType"], "is no media type")
    _require_texts(place, f"{where}.annotations", found.get("annotations"))
    _require_texts(place, f"{where}.platform", found.get("platform"), _PLATFORM)


def _require_texts(place: Reference, where: str, texts: Any, names: tuple[str, ...] = ()) -> None:
    """Refuse what is there and no object of texts; with `names` only those of its fields must be texts."""
    if texts is None:
        return
    if not isinstance(texts, dict):
        raise _broken(place, where, texts, "is no object")
    for name, text in cast("Json", texts).items():
        if (not names or name in names) and not isinstance(text, str):
            raise _broken(place, f"{where}.{name}", text, "is no text")


def _broken(place: Reference, where: str, value: Any, reason: str) -> RegistryError:
    found = "is missing" if value is None else f"= {shortened(repr(value), _SHOWN_CHARACTERS)} {reason}"
    fix = "Push it again, with a tool that keeps to the OCI image specification"
    return RegistryError(place.registry, place.repository, f"the manifest {place.selector} is broken: {where} {found}", fix)
