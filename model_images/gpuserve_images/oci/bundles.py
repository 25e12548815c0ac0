"""Signatures in Sigstore's bundles, which cosign 3 writes by default: a document about the image that holds a signed in-toto statement.

Of a bundle only what a key can vouch for is read: the envelope (DSSE, github.com/secure-systems-lab/dsse, protocol.md) and the statement in
it. Certificates and transparency logs are not looked at.
"""

import base64
import binascii
import json
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

BUNDLE = "application/vnd.dev.sigstore.bundle"
"""Start of the type of a bundle; its version follows."""

_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
_STATEMENT = "application/vnd.in-toto+json"


def signed_annotations(content: bytes, key: EllipticCurvePublicKey, digest: str) -> dict[str, str] | None:
    """Check a bundle.

    Args:
        content: The bundle.
        key: Public key.
        digest: Digest of the image.

    Returns:
        What the signer added, or None when the bundle is not a signature of this image by this key.
    """
    try:
        envelope = cast("dict[str, Any]", json.loads(content)["dsseEnvelope"])
        kind, payload = str(envelope["payloadType"]), base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    said = b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)
    if kind != _STATEMENT or not any(_holds(key, signature, said) for signature in signatures):
        return None
    statement = cast("dict[str, Any]", json.loads(payload))
    if statement.get("predicateType") != _PREDICATE:
        return None
    subjects = [one for one in statement["subject"] if one["digest"].get("sha256") == digest.removeprefix("sha256:")]
    return dict(subjects[0].get("annotations") or {}) if subjects else None


def _holds(key: EllipticCurvePublicKey, signature: bytes, said: bytes) -> bool:
    try:
        key.verify(signature, said, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
