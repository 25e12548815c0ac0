"""Signatures of images, in cosign's layout: an image manifest under the tag `sha256-<digest>.sig`, one layer per signature.

What is signed is a small JSON document that names the image's digest (github.com/containers/image, docs/containers-signature.5.md,
"simple signing"; sigstore/cosign, specs/SIGNATURE_SPEC.md). `cosign verify --key cosign.pub` reads ours, and we read those of
`cosign sign --key` in that layout and as bundles. No transparency log is asked or told.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.oci import memory
from gpuserve_images.oci.baking import finish
from gpuserve_images.oci.blobs import Blob, Meter, Transfer
from gpuserve_images.oci.bundles import BUNDLE, signed_annotations
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.config import (
    CONFIG,
    MANIFEST,
    ImageConfig,
    Json,
    derive_config,
    digest_of,
    encode,
    image_manifest,
    unplaced_config,
)
from gpuserve_images.oci.keys import fingerprint, public_key
from gpuserve_images.oci.manifests import Manifest
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.referrers import referrers

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
_NONE: Mapping[str, str] = MappingProxyType({})
# A payload has some hundred bytes; somebody else's layer must not fill the memory.
_MOST_BYTES = 1 << 20


class SignatureError(ImageError):
    """An image is not signed by the key that it should be signed by."""


@dataclass(frozen=True)
class Signature:
    """A signature that was checked.

    Attributes:
        digest: Digest of the signed image.
        named: What the signer called the image: registry and repository; of a bundle, which does not say, where it was found.
        annotations: What the signer added.
    """

    digest: str
    named: str
    annotations: Mapping[str, str]


def sign(image: str, key: EllipticCurvePrivateKey, *, annotations: Mapping[str, str] = _NONE) -> str:
    """Sign an image; a second signature by the same key over the same things changes nothing.

    Args:
        image: The image, best by digest: a tag is signed as what it names now.
        key: Private key.
        annotations: What the signature says besides, such as who built it.

    Returns:
        The reference of the signatures.

    Raises:
        RegistryError: The registry lacks the image, refused or is down.
    """
    place, client, digest = _find(image)
    payload = _payload(place, digest, annotations)
    # Without a random number (RFC 6979) the same key over the same things gives the same signature.
    signature = base64.b64encode(key.sign(payload, ECDSA(SHA256(), deterministic_signing=True))).decode()
    blob = Blob.of(_PAYLOAD, lambda: [payload])
    layer: Json = {**blob.descriptor, "annotations": {_SIGNATURE: signature}}
    here = _signatures(place, digest)
    with memory.only_one(str(here)):
        found = client.manifest(here)
        before = _layers(found)
        if layer not in before:
            layers = [*before, layer]
            content = encode(
                derive_config(unplaced_config(), ImageConfig(), [one["digest"] for one in layers], [""] * len(layers))
            )
            config = Blob.of(CONFIG, lambda: [content])
            manifest = Manifest(MANIFEST, encode(image_manifest(config.descriptor, layers, {})))
            finish(Transfer(client, here, Meter(blob.size + config.size)), [blob, config], manifest)
    return str(here)


def verify_signature(image: str, key: str | EllipticCurvePublicKey) -> Signature:
    """Check that an image is signed by a key.

    Args:
        image: The image, best by digest: of a tag, what it names now.
        key: Public key: PEM text, `env://NAME`, a file such as `cosign.pub`, or the key itself.

    Returns:
        The first signature that holds.

    Raises:
        SignatureError: There is no signature, or none of this key over this image.
        RegistryError: The registry lacks the image, refused or is down.
    """
    public = public_key(key) if isinstance(key, str) else key
    place, client, digest = _find(image)
    here = _signatures(place, digest)
    layers = _layers(client.manifest(here))
    for layer in layers:
        payload = _content(client, here, layer)
        if payload is not None and _holds(public, payload, (layer.get("annotations") or {}).get(_SIGNATURE, "")):
            signed = _claims(payload)
            if signed and signed.digest == digest:
                return signed
    bundles = [one for one in referrers(place.pinned(digest)) if one.artifact_type.startswith(BUNDLE)]
    for one in bundles:
        for content in _contents(client, one.reference):
            found = signed_annotations(content, public, digest)
            if found is not None:
                return Signature(digest, f"{place.registry}/{place.repository}", found)
    count = len(layers) + len(bundles)
    reason = f"has {count} signatures, none of them by this key over {digest}" if count else "is not signed"
    fix = "Do not use it, unless its builder signs it: `sign:` in the model's `bake:`, or `cosign sign --key`"
    raise SignatureError(str(place), reason, fix, value=fingerprint(public))


def _find(image: str) -> tuple[Reference, RegistryClient, str]:
    place = Reference.parse(image)
    client = RegistryClient(place.host)
    # The digest of the bytes: a header is the registry's word alone, which nobody who checks signatures should have to take.
    found = client.manifest(place)
    if found is None:
        fix = "Push the image first, or correct the reference"
        raise RegistryError(place.registry, place.repository, f"it has no image {place.selector}", fix, status=404)
    return place, client, found.digest


def _signatures(place: Reference, digest: str) -> Reference:
    return Reference(place.registry, place.repository, f"{digest.replace(':', '-')}.sig")


def _layers(found: Manifest | None) -> list[Json]:
    if found is None:
        return []
    return [layer for layer in found.layers if layer.get("mediaType") == _PAYLOAD]


def _payload(place: Reference, digest: str, annotations: Mapping[str, str]) -> bytes:
    critical = {
        "identity": {"docker-reference": f"{place.registry}/{place.repository}"},
        "image": {"docker-manifest-digest": digest},
        "type": _TYPE,
    }
    return encode({"critical": critical, "optional": dict(annotations) or None})


def _contents(client: RegistryClient, bundle: str) -> list[bytes]:
    place = Reference.parse(bundle)
    found = client.manifest(place)
    contents = [_content(client, place, layer) for layer in found.layers] if found else []
    return [content for content in contents if content is not None]


def _content(client: RegistryClient, here: Reference, layer: Json) -> bytes | None:
    if int(layer["size"]) > _MOST_BYTES:
        return None
    content = b"".join(client.blob_chunks(here, str(layer["digest"]), size=int(layer["size"])))
    return content if digest_of(content) == layer["digest"] else None


def _holds(key: EllipticCurvePublicKey, payload: bytes, signature: str) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), payload, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _claims(payload: bytes) -> Signature | None:
    """Read what was signed; None when it is about something else than an image."""
    data = cast("dict[str, Any]", json.loads(payload))
    critical = data["critical"]
    if critical["type"] != _TYPE:
        return None
    return Signature(
        critical["image"]["docker-manifest-digest"], critical["identity"]["docker-reference"], data.get("optional") or {}
    )
